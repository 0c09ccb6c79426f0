"""Sends notify_signal to the process of a run when an update is pending.

The signal does not kill a process that is still starting: it is held back until the
process catches it, or blocks it in order to read it, but for at most MAX_WAIT seconds.
However many updates arrive, at most one signal is sent and one line logged every
INTERVAL seconds. A fork gets none before it has made its own session: until then it may
have the daemon's handlers.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Callable, Dict, Optional, Set

from twitcher.log import get_logger
from twitcher.runs.process_group import signal_name
from twitcher.runs.procfs import SignalMasks, signal_masks

log = get_logger(__name__)

INTERVAL = 0.1
"""Seconds between two signals, and between two checks of what the process catches."""
MAX_WAIT = 5.0
"""Seconds after which the signal is sent even if the process does not catch it, from
the start of the process or from the update, whichever is later."""
DEATH_TIMEOUT = 2.0
"""Seconds after a signal within which the process that it kills ends."""

# These are sent at once: they are meant to end or to stop a process, or work without a
# handler: signal(7).
_AT_ONCE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT)
_DEADLY = signal.valid_signals() - {
    signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN,
    signal.SIGTTOU}


class Notifier:
    """Decides when the process of one run is sent a signal; `send(signum)` sends it.

    `expect_death(True)` is called before a signal that will kill the process, and
    `expect_death(False)` if it has not. `is_expected`: an earlier daemon has sent such
    a signal.
    """

    def __init__(self, description: str, send: Callable[[int], None], expect_death: Callable[[bool], None],
                 is_expected: bool) -> None:
        self._description = description
        self._send = send
        self._expect_death = expect_death
        self._loop = asyncio.get_running_loop()
        self._pid: Optional[int] = None
        self._deadlines: Dict[int, float] = {}
        self._timer: Optional[asyncio.TimerHandle] = None
        self._next = 0.0
        self._sent: Set[int] = set()
        self._killed_until = 0.0
        self._death_timer: Optional[asyncio.TimerHandle] = None
        if is_expected:
            self._start_death_timer()
        self._masks: Optional[SignalMasks] = None

    def notify(self, signum: int) -> None:
        """Send the signal as soon as the process is ready: an update is pending."""
        self._deadlines.setdefault(signum, self._loop.time() + MAX_WAIT)
        if self._pid and not self._timer:
            self._proceed()

    def start(self, pid: int) -> None:
        """The process exists: send the signals that `notify` was given before."""
        self._pid = pid
        self._deadlines = dict.fromkeys(self._deadlines, self._loop.time() + MAX_WAIT)
        if self._deadlines:
            self._proceed()

    def stop(self) -> None:
        """The process has ended: send nothing more."""
        self._deadlines.clear()
        for timer in (self._timer, self._death_timer):
            if timer:
                timer.cancel()

    def has_killed(self, exit_code: Optional[int]) -> bool:
        """Whether the process was killed by a signal from here.

        If its exit code is unknown, because an earlier daemon was its parent, a deadly
        signal that was sent up to DEATH_TIMEOUT seconds ago counts as the cause.
        """
        is_expected = self._loop.time() < self._killed_until
        return is_expected if exit_code is None else -exit_code in self._sent or is_expected and exit_code < 0

    def _proceed(self) -> None:
        """Send the signals that can be sent now, and set a timer for the others."""
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
        """Whether the process is ready for the signal: it catches it, or blocks it.

        A fork blocks all signals for a moment, so that a signal counts as blocked only
        if it was in the masks of `before` as well.
        """
        assert self._pid and self._masks
        if not _has_own_session(self._pid):
            return False
        return (signum in _AT_ONCE or self._masks.is_caught(signum)
                or before is not None and before.is_blocked(signum) and self._masks.is_blocked(signum))

    def _send_now(self, signum: int, masks: SignalMasks) -> None:
        is_taken = masks.is_caught(signum) or masks.is_blocked(signum) or masks.is_ignored(signum)
        self._sent.add(signum)
        if not is_taken and signum in _DEADLY:
            self._expect_death(True)
            self._start_death_timer()
        log.info('%s: %s to pid %d: an update is waiting', self._description, signal_name(signum), self._pid)
        self._send(signum)

    def _start_death_timer(self) -> None:
        self._killed_until = self._loop.time() + DEATH_TIMEOUT
        if self._death_timer:
            self._death_timer.cancel()
        self._death_timer = self._loop.call_later(DEATH_TIMEOUT, self._expect_death, False)


def _has_own_session(pid: int) -> bool:
    """Whether it leads a session: a fork does once it has reset the handlers."""
    try:
        return os.getsid(pid) == pid
    except OSError:
        return True
