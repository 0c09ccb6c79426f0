"""A deadline for a file that is executed in the daemon itself: it is interrupted even
if it catches every exception.

Signals that arrive during the execution are raised again afterwards, for the daemon's
loop.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal's own looks up names, which takes ten times as long
import signal
import sys
from contextlib import contextmanager
from types import FrameType
from typing import Any, Iterator, List, Optional, Tuple

_AGAIN = 0.05
"""Seconds. A file may catch the interruption, so it is raised again until the file
stops."""
_AT_ONCE = 1e-5
STOPPING = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class DeadlineError(BaseException):
    """Raised inside a file. Not an Exception, so that `except Exception` does not catch
    it."""


@contextmanager
def interrupted_after(seconds: float, path: str, received: List[int]) -> Iterator[None]:
    """Raise DeadlineError in the file at `path` until the file no longer catches it:
    `seconds` from now, or when SIGTERM or SIGINT arrives. Adds the signals that arrive
    to `received`.
    """
    interruption = _Interruption(path, received)
    before = [(number, handler) for number, handler in signal_handlers()
              if number == signal.SIGALRM or number in STOPPING or callable(handler)]
    for number, _ in before:
        signal.signal(number, interruption.handle)
    # Write no signal to the loop's wakeup descriptor: an event loop in the file would
    # take it away.
    wakeup = signal.set_wakeup_fd(-1)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.settrace(None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number, handler in before:
            signal.signal(number, handler)
        for number in dict.fromkeys(received):
            if dict(before)[number] not in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler):
                signal.raise_signal(number)  # now it reaches the loop


class _Interruption:
    """Raises DeadlineError, and raises it again when the file catches it.

    A `while True:` around a `try:` catches every exception that is raised in its body.
    So tracing raises it on the next line that is executed, which is in the handler.
    After the first interruption, functions of other modules that the file has called
    may clean up; if they do not return, each of their lines raises as well.
    """

    def __init__(self, path: str, received: List[int]) -> None:
        self._path = path
        self._received = received
        self._count = 0

    def handle(self, signum: int, frame: Optional[FrameType]) -> None:
        """The signal handler, also of SIGALRM."""
        if signum != signal.SIGALRM:
            self._received.append(signum)
            if signum not in STOPPING:
                return
        if not self._is_inside(frame):  # the file has just returned: this would be raised in the daemon
            return
        self._count += 1
        while frame and self._is_inside(frame):
            frame.f_trace = self._raise_on_line
            frame = frame.f_back
        sys.settrace(self._raise_on_line)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raise DeadlineError

    def _raise_on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """The trace function, used after the first interruption."""
        is_own = frame.f_code.co_filename == self._path
        if event == 'line' and (is_own or self._count > 1) and self._is_inside(frame):
            # Raising ends the tracing. If the file catches this too, the next alarm
            # must come while its handler still runs.
            signal.setitimer(signal.ITIMER_REAL, _AT_ONCE, _AGAIN)
            raise DeadlineError
        return self._raise_on_line

    def _is_inside(self, frame: Optional[FrameType]) -> bool:
        """Whether the frame belongs to the file, or to a function that the file called,
        directly or not."""
        while frame:
            if frame.f_code.co_filename == self._path:
                return True
            frame = frame.f_back
        return False


def signal_handlers() -> List[Tuple[int, Any]]:
    """Every signal that can have a handler, with its handler; None if Python did not
    set it."""
    return [(number, _signal.getsignal(number)) for number in _SIGNALS]
