"""What actions print, on its way to the log: the daemon's half.

The lines are read and logged by a process of its own (`outputd`), so that a chatty action holds up nobody, and that
neither the end of the daemon nor its death breaks an action's pipe. The process is started with the first run, started
again should it die, and ends by itself when the daemon and all actions are gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections import deque
from typing import Any, Deque, Dict, NamedTuple, Optional

from twitcher.log import get_logger
from twitcher.log_target import LogTarget

log = get_logger(__name__)

RESTART_DELAY = 1.0
"""Seconds until another attempt when the process could not be started."""


class _Message(NamedTuple):
    """What the process is told: facts about a pipe, and the pipe itself the first time."""

    facts: Dict[str, Any]
    descriptor: Optional[int] = None


class Output:
    """Hands the reading ends of the actions' pipes to the process that logs them."""

    def __init__(self, target: LogTarget) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._socket: Optional[socket.socket] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        # All that a new process must be told: our copy of each descriptor keeps a pipe whole until its run is over.
        self._pipes: Dict[int, Dict[str, Any]] = {}
        self._unsent: Deque[_Message] = deque()

    def attach(self, reader: int, description: str) -> None:
        """Hand over the descriptor, which is ours from now on. What comes out of it waits until `name` tells whose it is."""
        self._pipes[reader] = {'pipe': reader, 'description': description}
        if not self._process:
            self._start()
        else:
            self._tell(_Message(self._pipes[reader], reader))

    def name(self, reader: int, pid: int) -> None:
        """Log every line that comes out of the descriptor with the description and this pid."""
        self._pipes[reader]['pid'] = pid
        self._tell(_Message({'pipe': reader, 'pid': pid}))

    def release(self, reader: int) -> None:
        """The run is over, or never began; whoever else has the pipe open is still listened to."""
        if 'pid' not in self._pipes[reader]:
            self.name(reader, 0)
        if not self._socket or any(message.facts['pipe'] == reader for message in self._unsent):
            self._loop.call_later(RESTART_DELAY, self.release, reader)  # there may be something in it that was not read
        else:
            del self._pipes[reader]
            os.close(reader)

    def _start(self) -> None:
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        # What it imports is the daemon's own: not what happens to lie in / or in PYTHONPATH.
        program = f'import sys; sys.path.insert(0, {package!r}); from twitcher.outputd import main; main()'
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, '-I', '-c', program], stdin=theirs.fileno(), start_new_session=True, cwd='/',
                    stdout=None if self._target.kind == 'stdout' else subprocess.DEVNULL,
                    stderr=None if self._target.kind == 'stderr' else subprocess.DEVNULL)
        except OSError as error:
            log.error('output of actions waits: its process cannot be started: %s', error.strerror)
            self._loop.call_later(RESTART_DELAY, self._start_again)
            return
        ours.setblocking(False)
        self._socket = ours
        self._loop.add_reader(ours, self._process_died)
        greeting = _Message({'pipe': None, 'target': self._target.as_dict(), 'pid': os.getpid()})
        self._unsent = deque([greeting, *(_Message(facts, reader) for reader, facts in self._pipes.items())])
        self._send()

    def _start_again(self) -> None:
        if not self._socket and self._pipes:
            self._start()

    def _process_died(self) -> None:
        """It never says anything: its socket becomes readable when it is gone."""
        assert self._socket
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._socket = None
        self._process = None  # subprocess reaps what is dropped
        log.error('the process that logs the output of actions has died; starting another')
        self._loop.call_later(RESTART_DELAY, self._start_again)

    def _tell(self, message: _Message) -> None:
        if self._socket:
            self._unsent.append(message)
            self._send()

    def _send(self) -> None:
        assert self._socket
        self._loop.remove_writer(self._socket)
        while self._unsent:
            facts, descriptor = self._unsent[0]
            try:
                socket.send_fds(self._socket, [json.dumps(facts).encode()], [] if descriptor is None else [descriptor])
            except BlockingIOError:
                self._loop.add_writer(self._socket, self._send)
                return
            except OSError:
                return  # it is dead, and _process_died is about to be called
            self._unsent.popleft()
