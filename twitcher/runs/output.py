"""Hands the output pipes of runs to the process that logs them.

A process of its own, twitcher-output, logs the output (output_process.py), so that a
chatty action does not slow down the daemon, and the end of the daemon, even by SIGKILL,
does not break the pipe of an action. It is started with the first run, restarted if it
dies, and ends by itself when the daemon and all actions have ended.

The reading end of a pipe is handed over before the process of its run exists. Our own
copy stays open until the run is over and the output process has received all messages:
a restarted output process needs it.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections import deque
from functools import partial
from itertools import count
from typing import Callable, Deque, Dict, List, Optional

from twitcher.descriptors import NEEDED
from twitcher.log import get_logger
from twitcher.log_target import LogTarget
from twitcher.runs.output_link import OutputLink
from twitcher.runs.output_protocol import MAX_DESCRIPTION, Message, Pid, Pipe, Start, encode

log = get_logger(__name__)

RESTART_DELAY = 1.0
"""Seconds until the output process is restarted after it has died or could not be
started. Doubles each time that it does not last, up to MAX_RESTART_DELAY."""
MAX_RESTART_DELAY = 16.0
CLOSE_TIMEOUT = 2.0
"""Seconds that a stop of the daemon waits until all messages are sent."""
RETRY_DELAY = 0.2
"""Seconds until the next attempt to close the pipes of ended runs."""
MAX_UNRECEIVED = 256
"""Pipes of ended runs that the output process may not have received yet. If there are
more, the oldest are closed, so that other runs have descriptors."""


class _RunPipe:
    def __init__(self, number: int, reader: int, description: str) -> None:
        self.number = number
        self.reader = reader
        self.description = description
        self.pid: Optional[int] = None
        self.may_start = False

    def messages(self) -> List[Message]:
        """The messages for a new output process; the descriptor goes with the first."""
        messages: List[Message] = [Pipe(self.number, self.description)]
        if self.pid is not None:
            messages.append(Pid(self.number, self.pid))
        if self.may_start:
            messages.append(Start(self.number))
        return messages


class Output:
    """Starts the output process and tells it about every pipe. It logs to `target`."""

    def __init__(self, target: LogTarget) -> None:
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._pipes: Dict[int, _RunPipe] = {}
        self._unreceived: Deque[_RunPipe] = deque()
        self._max_unreceived = min(MAX_UNRECEIVED, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
        self._abandoned = 0
        self._close_timer: Optional[asyncio.TimerHandle] = None
        self._link: Optional[OutputLink] = None
        self._link_since = 0.0
        self._restart_timer: Optional[asyncio.TimerHandle] = None
        self._restart_delay = RESTART_DELAY

    def add_pipe(self, reader: int, description: str) -> None:
        """Hand over the reading end of a run's pipe, which is ours from now on.

        It is not read before the function that `set_pid` returns is called.
        """
        pipe = self._pipes[reader] = _RunPipe(next(self._numbers), reader, description[:MAX_DESCRIPTION])
        NEEDED.add(reader)
        if self._link:
            self._hand_over(self._link, pipe)
        elif not self._restart_timer:
            self._start()

    def tell_pid(self, reader: int, pid: int) -> None:
        """Send the pid ahead of `set_pid`: we may be killed in between. Thread-safe."""
        pipe, link = self._pipes.get(reader), self._link
        if pipe and link and link.send_now(encode(Pid(pipe.number, pid))):
            pipe.pid = pid

    def set_pid(self, reader: int, pid: int) -> Callable[[], None]:
        """Label every line from the pipe with the description and this pid.

        Returns a function, to be called from any thread, that lets the output be
        logged. It is to be called when the line that says "pid N started" has been
        written; the output process waits for that, but not longer than START_TIMEOUT.
        """
        pipe = self._pipes[reader]
        if pipe.pid is None:
            pipe.pid = pid
            self._send(Pid(pipe.number, pid))
        return partial(self._allow_start, pipe)

    def close_pipe(self, reader: int) -> None:
        """Close our copy of the pipe of a run that is over or never began.

        It is closed as soon as the output process has received all messages. Output of
        processes that the run left behind is still logged.
        """
        pipe = self._pipes[reader]
        if pipe.pid is None:
            pipe.may_start = True
            self._send(Start(pipe.number))
        self._unreceived.append(pipe)
        if not self._close_timer or len(self._unreceived) > self._max_unreceived:
            self._close_received()

    def close(self) -> None:
        """Send the rest, for at most CLOSE_TIMEOUT seconds, before the daemon ends."""
        if self._pipes and not self._link:
            self._start()
        if self._link:
            count_left = self._link.flush(CLOSE_TIMEOUT)
            if count_left:
                log.error('the process that logs the output of actions does not accept it: the output of %d runs is lost',
                          count_left)

    def _start(self) -> None:
        if self._restart_timer:
            self._restart_timer.cancel()
            self._restart_timer = None
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
        self._restart_timer = self._loop.call_later(self._restart_delay, self._start_again)
        self._restart_delay = min(2 * self._restart_delay, MAX_RESTART_DELAY)

    def _start_again(self) -> None:
        self._restart_timer = None
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

    def _allow_start(self, pipe: _RunPipe) -> None:
        pipe.may_start = True
        link = self._link
        if link:
            link.send_now(encode(Start(pipe.number)))

    def _close_received(self) -> None:
        """Close our copies of the pipes of ended runs.

        If the output process has not received all messages, only those beyond
        MAX_UNRECEIVED are closed.
        """
        if self._close_timer:
            self._close_timer.cancel()
            self._close_timer = None
        is_drained = self._link is not None and self._link.is_drained()
        excess = len(self._unreceived) - self._max_unreceived
        if not is_drained and excess > 0:
            if not self._abandoned:
                log.error('the process that logs the output of actions does not accept it: of the output of more than %d '
                                          'runs that have ended, the oldest may be lost', self._max_unreceived)
            self._abandoned += excess
        for _ in range(len(self._unreceived) if is_drained else excess):
            pipe = self._unreceived.popleft()
            if self._link:
                self._link.discard(pipe.reader)
            del self._pipes[pipe.reader]
            NEEDED.discard(pipe.reader)
            os.close(pipe.reader)
        if is_drained and self._abandoned:
            log.error('the process that logs the output of actions accepts it again; the output of %d runs may be lost',
                      self._abandoned)
            self._abandoned = 0
        if self._unreceived:
            self._close_timer = self._loop.call_later(RETRY_DELAY, self._close_received)
