"""notify_signal: tells the process of a run that an update is waiting.

A process that is still starting is not killed by it: the signal waits until the process
catches it, or keeps it blocked in order to read it, MAX_WAIT seconds at most. Of many
updates one signal is sent, and one line logged, every INTERVAL seconds. Nothing is sent
to a fork that has not come to its own session yet, for it may still have the daemon's
handlers.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Callable, Dict, Optional, Set

from twitcher.log import get_logger
from twitcher.runs.procfs import SignalMasks, signal_masks

log = get_logger(__name__)

INTERVAL = 0.1
"""Seconds between two signals, and between two tests whether the process catches one."""
MAX_WAIT = 5.0
"""Seconds from the start of the process, or from the update, until a signal is sent that
the process does not catch."""
DYING = 2.0
"""Seconds, at most, from a signal to the end of the process that it kills."""

# These mean the end of a process, or act on one that does not catch them: signal(7).
_AT_ONCE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT)
_DEADLY = signal.valid_signals() - {
    signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN,
    signal.SIGTTOU}


class Notifier:
    """The signals for the process of one run; `send(signum)` sends one."""

    def __init__(self, description: str, send: Callable[[int], None]) -> None:
        self._description = description
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._pid: Optional[int] = None
        self._deadlines: Dict[int, float] = {}
        self._timer: Optional[asyncio.TimerHandle] = None
        self._next = 0.0
        self._sent: Set[int] = set()
        self._killed_until = 0.0
        self._masks: Optional[SignalMasks] = None

    def notify(self, signum: int) -> None:
        """An update is waiting: send the signal as soon as the process can take it."""
        self._deadlines.setdefault(signum, self._loop.time() + MAX_WAIT)
        if self._pid and not self._timer:
            self._proceed()

    def start(self, pid: int) -> None:
        """The process exists: send the signals that came before it did."""
        self._pid = pid
        self._deadlines = dict.fromkeys(self._deadlines, self._loop.time() + MAX_WAIT)
        if self._deadlines:
            self._proceed()

    def stop(self) -> None:
        """The process has ended: send nothing any more."""
        self._deadlines.clear()
        if self._timer:
            self._timer.cancel()

    def has_ended_it(self, exit_code: Optional[int]) -> bool:
        """Whether the process has died of a signal that was sent.

        Its exit code is not known if it was an earlier daemon's child: then a signal
        that was to end it, and was sent just before, is taken for the reason.
        """
        return self._loop.time() < self._killed_until if exit_code is None else -exit_code in self._sent

    def _proceed(self) -> None:
        """Send what can be sent now, and come back for the rest."""
        assert self._pid
        self._timer = None
        now = self._loop.time()
        if now >= self._next:
            before, self._masks = self._masks, signal_masks(self._pid)
            for signum, deadline in list(self._deadlines.items()):
                if self._is_ready(signum, before) or now >= deadline:
                    del self._deadlines[signum]
                    self._next = now + INTERVAL
                    self._send_now(signum, self._masks)
        if self._deadlines:
            self._timer = self._loop.call_at(self._next if self._next > now else now + INTERVAL, self._proceed)
        else:
            self._masks = None

    def _is_ready(self, signum: int, before: Optional[SignalMasks]) -> bool:
        """Whether the process can take the signal. A fork blocks all for a moment: blocked
        are those that were `before` as well."""
        assert self._pid and self._masks
        if not _has_own_session(self._pid):
            return False
        return (signum in _AT_ONCE or self._masks.is_caught(signum)
                or before is not None and before.is_blocked(signum) and self._masks.is_blocked(signum))

    def _send_now(self, signum: int, masks: SignalMasks) -> None:
        is_taken = masks.is_caught(signum) or masks.is_blocked(signum) or masks.is_ignored(signum)
        self._sent.add(signum)
        if not is_taken and signum in _DEADLY:
            self._killed_until = self._loop.time() + DYING
        log.info('%s: %s to pid %d: an update is waiting', self._description, signal_name(signum), self._pid)
        self._send(signum)


def _has_own_session(pid: int) -> bool:
    """Whether it is what was to be executed, or a fork that has put away the daemon's handlers."""
    try:
        return os.getsid(pid) == pid
    except OSError:
        return True


def signal_name(signum: int) -> str:
    """SIGTERM and so on; real-time signals have no names."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f'signal {signum}'
