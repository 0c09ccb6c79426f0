"""What actions print, on its way to the log: the process that reads and logs it.

Its stdin is a socket on which the daemon sends first the log's target, then one pipe after the other,
and then the pid that goes with it. Each line becomes one
record with the watch's description and the pid; a last line without a newline counts; what is longer than LONGEST_LINE is
cut into pieces. It ends when the daemon has ended and no process has any of the pipes open. It ignores the signals that
stop a daemon: killing it would break the pipes of running actions.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import Dict, Iterator, Tuple

from twitcher.log import get_logger, set_levels, start_logging, stop_logging
from twitcher.log_target import LogTarget
from twitcher.procfs import find_leader

log = get_logger(__name__)

LONGEST_LINE = 2000
"""Bytes of a piece: with what is written before it, it fits the 2048 that every syslog server should take (RFC 5424, 6.1)."""
FAREWELL = 1.0
"""Seconds that it stays after its last line: journald asks whose a record is after its sender may have ended."""
_CHUNK = 65536


@dataclass
class Lines:
    """Cuts a stream of bytes into lines of at most LONGEST_LINE; holds no more than that between two chunks."""

    rest: bytes = b''

    def take(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that are complete with this chunk."""
        *lines, self.rest = (self.rest + chunk).split(b'\n')
        for line in lines:
            yield from self._pieces(line)
        *pieces, self.rest = self._pieces(self.rest)
        yield from pieces

    def end(self) -> Iterator[bytes]:
        """The last line, if there is one without a newline."""
        if self.rest:
            yield self.rest

    def _pieces(self, line: bytes) -> Iterator[bytes]:
        """The line in pieces, at least one, none of which ends in the middle of a UTF-8 character."""
        while len(line) > LONGEST_LINE:
            cut = LONGEST_LINE
            while cut > LONGEST_LINE - 3 and line[cut] & 0xC0 == 0x80:
                cut -= 1
            yield line[:cut]
            line = line[cut:]
        yield line


class OutputProcess:
    """Reads all pipes at once, a chunk of each in turn."""

    def __init__(self, daemon: socket.socket) -> None:
        self._daemon = daemon
        self._selector = selectors.DefaultSelector()
        self._unnamed: Dict[int, Tuple[int, str]] = {}
        self._selector.register(daemon, selectors.EVENT_READ, self._take_pipe)

    def run(self) -> None:
        """Until the daemon and every pipe have come to their end."""
        while self._selector.get_map():
            for key, _ in self._selector.select():
                key.data()

    def _take_pipe(self) -> None:
        """A message of the daemon: a pipe, or whose it is. Its end: what is still nobody's has to be read all the same."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._daemon, _CHUNK, 1)
        except ConnectionError:
            message, descriptors = b'', []
        if not message:
            self._selector.unregister(self._daemon)
            for number, (pipe, _) in list(self._unnamed.items()):  # killed before it could name the process it had just started
                self._listen(number, find_leader(os.fstat(pipe).st_ino) or '?')
            return
        facts = json.loads(message)
        if descriptors:
            self._unnamed[facts['pipe']] = (descriptors[0], facts['description'])
        if 'pid' in facts:
            self._listen(facts['pipe'], facts['pid'])

    def _listen(self, number: int, pid: object) -> None:
        pipe, description = self._unnamed.pop(number)
        self._selector.register(pipe, selectors.EVENT_READ, partial(self._read, pipe, Lines(), f'{description}[{pid}]'))

    def _read(self, pipe: int, lines: Lines, label: str) -> None:
        chunk = os.read(pipe, _CHUNK)
        for line in lines.take(chunk) if chunk else lines.end():
            log.info('%s: %s', label, line.decode('utf-8', 'backslashreplace'))
        if not chunk:
            self._selector.unregister(pipe)
            os.close(pipe)


def main() -> None:
    """Serve the daemon at the other end of stdin."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with open('/proc/self/comm', 'w') as name:
        name.write('twitcher-output')
    # A descriptor for every action there may be: one that finds no room is lost.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    daemon = socket.socket(fileno=0)
    about = json.loads(daemon.recv(_CHUNK))
    start_logging(LogTarget(**about['target']), about['pid'])
    set_levels(False, False)
    OutputProcess(daemon).run()
    stop_logging()
    time.sleep(FAREWELL)
