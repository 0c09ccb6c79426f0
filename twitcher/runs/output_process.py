"""twitcher-output: the process that reads the output pipes of runs and logs them.

Its stdin is a socket on which the daemon hands over the pipes (output_protocol.py).
Each line becomes one record with the watch's description and the pid. A last line
without a newline counts as one, and a line longer than MAX_LINE is cut into pieces.

If it died, the pipes of running actions would break. So it ignores the signals that
stop a daemon, and continues after any message, error or shortage. It accepts pipes from
the daemon before it reads any, never blocks on a pipe or on the log, and ends when the
daemon has ended and no process holds any of the pipes open.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import time
from collections import deque
from typing import Deque, Dict, Iterator, List, Optional, Set

from twitcher.log_queue import LogQueue
from twitcher.log_target import ERROR, INFO, LogTarget, Record, open_target
from twitcher.runs.output_protocol import MAX_PACKET, Message, Pid, Pipe, Start, decode
from twitcher.runs.procfs import find_session_leader

MAX_LINE = 2000
"""Bytes of a piece. With the header it fits the 2048 bytes that every syslog server
should accept (RFC 5424, 6.1)."""
MAX_QUEUED = 1_000_000
"""Bytes of output that wait for the log. If there are more, no pipe is read, so that
actions block once their pipe is full."""
START_TIMEOUT = 5.0
"""Seconds after Pid until a pipe is read without Start: the daemon's log may hang."""
LINGER = 1.0
"""Seconds between the last line and the exit: journald looks up the sender of a record
in /proc after it has received it."""
ROOM_DELAY = 0.02
"""Seconds between two attempts while the log has no room."""
ERROR_DELAY = 0.1
"""Seconds until the next attempt after an unexpected error."""
RESERVED_DESCRIPTORS = 16
"""Descriptors not for pipes: the log, epoll, poll, and a few inherited ones."""
_CHUNK = 65536
_LINE_OVERHEAD = 50


class Lines:
    """Cuts a stream of bytes into lines of at most MAX_LINE bytes.

    Between two chunks it holds at most as many, in `rest`.
    """

    def __init__(self) -> None:
        self.rest = b''

    def take(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that this chunk completes."""
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
        """Cut a line into pieces, at least one. No cut splits a UTF-8 character."""
        while len(line) > MAX_LINE:
            cut = MAX_LINE
            while cut > MAX_LINE - 3 and line[cut] & 0xC0 == 0x80:
                cut -= 1
            yield line[:cut]
            line = line[cut:]
        yield line


class _Source:
    """A pipe and the run that writes to it.

    It is not read before its `deadline`; None means that there is none yet.
    """

    def __init__(self, descriptor: int, description: str, deadline: Optional[float] = None) -> None:
        self.descriptor = descriptor
        self.description = description
        self.pid = '?'
        self.deadline = deadline
        self.lines = Lines()


class OutputProcess:
    """Reads all pipes at once, one chunk of each in turn.

    It holds at most `max_pipes`; further ones wait in the socket.
    """

    def __init__(self, daemon: socket.socket, queue: LogQueue, max_pipes: int) -> None:
        daemon.setblocking(False)
        self._daemon: Optional[socket.socket] = daemon
        self._queue = queue
        self._max_pipes = max_pipes
        self._epoll = select.epoll()
        self._waiting: Dict[int, _Source] = {}
        self._sources: Dict[int, _Source] = {}
        self._ready: Deque[int] = deque()
        self._reported: Set[str] = set()

    def run(self) -> None:
        """Read and log until the daemon has ended and every pipe is at its end."""
        while self._daemon or self._waiting or self._sources:
            try:
                self._wait()
                self._take_messages()
                self._start_overdue()
                self._read_ready()
            except Exception as error:  # a shortage, or a bug: not worth breaking the pipes
                self._report(f'output of actions is delayed: {type(error).__name__}: {error}')
                time.sleep(ERROR_DELAY)

    def _take_messages(self) -> None:
        """Receive all that the daemon has sent: it keeps its copies until then."""
        while self._daemon and self._has_descriptors():
            try:
                packet, descriptors, _, _ = socket.recv_fds(self._daemon, MAX_PACKET, 1)
            except BlockingIOError:
                return
            except ConnectionError:
                packet, descriptors = b'', []
            if packet:
                self._take_message(packet, descriptors)
            else:
                self._daemon_ended()
        if self._daemon:
            self._report(f'output of further runs waits: {self._max_pipes} pipes are open, and the limit of descriptors '
                         'allows no more')

    def _has_descriptors(self) -> bool:
        return len(self._waiting) + len(self._sources) < self._max_pipes

    def _take_message(self, packet: bytes, descriptors: List[int]) -> None:
        message: Optional[Message] = None
        try:
            message = decode(packet)
        except ValueError as error:
            self._report(f'from the daemon: {error}')
        for descriptor in descriptors:
            if isinstance(message, Pipe) and message.number not in self._waiting:
                self._waiting[message.number] = _Source(descriptor, message.description)
            else:  # unknown or repeated: read it all the same, or its writer would block
                self._waiting[-descriptor] = _Source(descriptor, '?', time.monotonic())
            # An action may open its own pipe, and read the bytes that poll has
            # reported.
            os.set_blocking(descriptor, False)
        if isinstance(message, (Pid, Start)) and message.number in self._waiting:
            source = self._waiting[message.number]
            if isinstance(message, Pid):
                source.pid, source.deadline = str(message.pid), time.monotonic() + START_TIMEOUT
            else:
                source.deadline = time.monotonic()

    def _daemon_ended(self) -> None:
        for source in self._waiting.values():
            if source.pid == '?':  # it was killed between the start of a process and Pid
                with contextlib.suppress(OSError):
                    source.pid = str(find_session_leader(os.fstat(source.descriptor).st_ino) or '?')
            source.deadline = time.monotonic()
        assert self._daemon
        self._daemon.close()
        self._daemon = None

    def _start_overdue(self) -> None:
        """Begin to read the pipes for which Start has arrived, or is overdue."""
        now = time.monotonic()
        overdue = [number for number, source in self._waiting.items() if source.deadline is not None and source.deadline <= now]
        for number in overdue:
            source = self._waiting[number]
            self._epoll.register(source.descriptor, select.EPOLLIN)
            self._sources[source.descriptor] = self._waiting.pop(number)

    def _read_ready(self) -> None:
        """Read one chunk of each pipe that is readable, as long as the log has room."""
        if not self._ready and self._queue.has_room():
            self._ready.extend(descriptor for descriptor, _ in self._epoll.poll(0))
        while self._ready and self._queue.has_room():
            self._read(self._ready.popleft())

    def _read(self, descriptor: int) -> None:
        source = self._sources[descriptor]
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        now = time.time()
        label = f'{source.description}[{source.pid}]'
        lines = list(source.lines.take(chunk) if chunk else source.lines.end())
        self._queue.put((Record(__name__, INFO, f'{label}: {line.decode("utf-8", "backslashreplace")}', created=now)
                         for line in lines), len(chunk) + len(lines) * _LINE_OVERHEAD)
        if not chunk:
            self._epoll.unregister(descriptor)
            del self._sources[descriptor]
            os.close(descriptor)

    def _wait(self) -> None:
        """Wait for a message, a readable pipe, or room in the log."""
        has_room = self._queue.has_room()
        if has_room and self._ready:
            return
        poll = select.poll()
        if self._daemon and self._has_descriptors():
            poll.register(self._daemon, select.POLLIN)
        if not has_room:
            poll.poll(ROOM_DELAY * 1000)
            return
        poll.register(self._epoll, select.POLLIN)
        deadlines = [source.deadline for source in self._waiting.values() if source.deadline is not None]
        poll.poll(max(0.0, min(deadlines) - time.monotonic()) * 1000 + 1 if deadlines else None)

    def _report(self, text: str) -> None:
        """Log an error, unless it has been logged before."""
        if text not in self._reported:
            self._reported.add(text)
            self._queue.put([Record(__name__, ERROR, text)])


def main(kind: str, path: str, pid: str) -> None:
    """Serve the daemon at the other end of stdin, whose pid this is.

    `kind` and `path` are those of its LogTarget.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM,
                   signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError), open('/proc/self/comm', 'w') as name:
        name.write('twitcher-output')
    queue = LogQueue(open_target(LogTarget(kind, path), int(pid)), MAX_QUEUED)
    OutputProcess(socket.socket(fileno=0), queue, _raised_limit() - RESERVED_DESCRIPTORS).run()
    queue.close(None)
    time.sleep(LINGER)


def _raised_limit() -> int:
    """Raise the limit of open descriptors as far as possible. Returns the new one."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        with open('/proc/sys/fs/nr_open') as file:
            possible = int(file.read())
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, possible))
        return possible
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    return hard_limit
