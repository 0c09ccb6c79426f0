"""What actions print, on its way to the log: the daemon's half.

The lines are read and logged by a process of its own (`outputd`), so that a chatty action holds up nobody, and that
neither the end of the daemon nor its death breaks an action's pipe. The process is started with the first run, started
again if it dies, and ends by itself when the daemon and all actions are gone.

A pipe's reading end is handed over before the process of its run exists. Our own copy is closed when the run is over and
the process has taken what we have sent: until then another one could be needed.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Callable, Deque, Dict, List, Optional

from twitcher.descriptors import PIPES
from twitcher.log import get_logger
from twitcher.log_target import LogTarget
from twitcher.runs.output_link import OutputLink
from twitcher.runs.output_protocol import MAX_DESCRIPTION, Message, Pid, Pipe, Start, encode

log = get_logger(__name__)

RESTART_DELAY = 1.0
"""Seconds until another process is started in the place of one that has died or could not be started. It doubles with each
that does not last, up to MAX_RESTART_DELAY."""
MAX_RESTART_DELAY = 16.0
CLOSE_TIMEOUT = 2.0
"""Seconds that the end of the daemon waits for the process to take what has not been sent."""
RETRY_DELAY = 0.2
"""Seconds until another attempt to close the pipes of ended runs that the process had not taken."""
MAX_UNTAKEN = 256
"""Pipes of ended runs that the process has not taken. Beyond that our copies are closed, so that there are descriptors
for other runs."""


@dataclass
class _RunPipe:
    number: int
    reader: int
    description: str
    pid: Optional[int] = None
    may_start: bool = False

    def messages(self) -> List[Message]:
        """All that a process must be told that knows nothing of it; the first goes with the descriptor."""
        facts: List[Message] = [Pipe(self.number, self.description)]
        if self.pid is not None:
            facts.append(Pid(self.number, self.pid))
        if self.may_start:
            facts.append(Start(self.number))
        return facts


class Output:
    """Hands the reading ends of the actions' pipes to the process that logs them."""

    def __init__(self, target: LogTarget) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._pipes: Dict[int, _RunPipe] = {}
        self._untaken: Deque[_RunPipe] = deque()
        self._max_untaken = min(MAX_UNTAKEN, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._given_up = 0
        self._closing: Optional[asyncio.TimerHandle] = None
        self._link: Optional[OutputLink] = None
        self._link_since = 0.0
        self._restart: Optional[asyncio.TimerHandle] = None
        self._restart_delay = RESTART_DELAY

    def add_pipe(self, reader: int, description: str) -> None:
        """Hand over the descriptor, which is ours from now on. It is read when `set_pid` tells whose it is."""
        pipe = self._pipes[reader] = _RunPipe(next(self._numbers), reader, description[:MAX_DESCRIPTION])
        PIPES.add(reader)
        if self._link:
            self._hand_over(self._link, pipe)
        elif not self._restart:
            self._start()

    def tell_pid(self, reader: int, pid: int) -> None:
        """Tell at once, in any thread, whose output it is: the daemon may be killed before it comes to `set_pid`."""
        pipe, link = self._pipes.get(reader), self._link
        if pipe and link and link.send_now(encode(Pid(pipe.number, pid))):
            pipe.pid = pid

    def set_pid(self, reader: int, pid: int) -> Callable[[], None]:
        """Log every line that comes out of the descriptor with the description and this pid.

        Returns what is to be called, in any thread, when the line has been written that says that it has started: not
        before that, or START_TIMEOUT later, is the output logged.
        """
        pipe = self._pipes[reader]
        if pipe.pid is None:
            pipe.pid = pid
            self._send(Pid(pipe.number, pid))
        return partial(self._may_start, pipe)

    def close_pipe(self, reader: int) -> None:
        """The run is over or never began: close our copy. Output of processes that it left behind is still logged."""
        pipe = self._pipes[reader]
        if pipe.pid is None:
            pipe.may_start = True
            self._send(Start(pipe.number))
        self._untaken.append(pipe)
        if not self._closing or len(self._untaken) > self._max_untaken:
            self._close_taken()

    def close(self) -> None:
        """Send what is unsent before the daemon ends, and our copies with it."""
        if self._pipes and not self._link:
            self._start()
        if self._link:
            count_left = self._link.flush(CLOSE_TIMEOUT)
            if count_left:
                log.error('the process that logs the output of actions does not take it: the output of %d runs is lost',
                          count_left)

    def _start(self) -> None:
        if self._restart:
            self._restart.cancel()
            self._restart = None
        try:
            self._link = link = OutputLink(self._target, self._process_died)
        except OSError as error:
            log.error('output of actions waits: its process cannot be started: %s', error.strerror)
            self._start_later()
            return
        self._link_since = self._loop.time()
        for pipe in self._pipes.values():
            self._hand_over(link, pipe)

    def _start_later(self) -> None:
        self._restart = self._loop.call_later(self._restart_delay, self._start_again)
        self._restart_delay = min(2 * self._restart_delay, MAX_RESTART_DELAY)

    def _start_again(self) -> None:
        self._restart = None
        if self._pipes:
            self._start()

    def _process_died(self) -> None:
        assert self._link
        code = self._link.close()
        self._link = None
        if self._loop.time() - self._link_since > MAX_RESTART_DELAY:
            self._restart_delay = RESTART_DELAY
        log.error('the process that logs the output of actions has died%s; starting another',
                  '' if code is None else f' (exit code {code})' if code >= 0 else f' (signal {-code})')
        self._start_later()

    def _hand_over(self, link: OutputLink, pipe: _RunPipe) -> None:
        first, *others = pipe.messages()
        link.send(encode(first), pipe.reader)
        for message in others:
            link.send(encode(message))

    def _send(self, message: Message) -> None:
        if self._link:
            self._link.send(encode(message))

    def _may_start(self, pipe: _RunPipe) -> None:
        pipe.may_start = True
        link = self._link
        if link:
            link.send_now(encode(Start(pipe.number)))

    def _close_taken(self) -> None:
        """Close our copies of the pipes of ended runs, if the process has them; and of too many, if it does not take them."""
        if self._closing:
            self._closing.cancel()
            self._closing = None
        is_drained = self._link is not None and self._link.is_drained()
        excess = len(self._untaken) - self._max_untaken
        if not is_drained and excess > 0:
            if not self._given_up:
                log.error('the process that logs the output of actions does not take it: of the output of more than %d runs '
                          'that have ended, the oldest may be lost', self._max_untaken)
            self._given_up += excess
        for _ in range(len(self._untaken) if is_drained else excess):
            pipe = self._untaken.popleft()
            if self._link:
                self._link.discard(pipe.reader)
            del self._pipes[pipe.reader]
            PIPES.discard(pipe.reader)
            os.close(pipe.reader)
        if is_drained and self._given_up:
            log.error('the process that logs the output of actions takes it again; of %d runs it may have been lost',
                      self._given_up)
            self._given_up = 0
        if self._untaken:
            self._closing = self._loop.call_later(RETRY_DELAY, self._close_taken)
