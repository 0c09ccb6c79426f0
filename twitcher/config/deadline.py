"""A deadline for user code that is executed in the daemon itself: it is interrupted however much it catches.

Signals that arrive meanwhile, and the daemon's loop would want, are delivered again afterwards.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal's own looks up names, which takes ten times as long
import signal
import sys
from contextlib import contextmanager
from types import FrameType
from typing import Any, Iterator, List, Optional, Tuple

# A file may catch the interruption (`except BaseException`), so it is raised again until the file stops.
_AGAIN = 0.05
_AT_ONCE = 1e-5
STOPPING = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class DeadlineError(BaseException):
    """Raised in the midst of a file; no Exception, so that `except Exception` does not stop it."""


@contextmanager
def interrupted_after(seconds: float, path: str, received: List[int]) -> Iterator[None]:
    """Raise DeadlineError in what the file at `path` executes inside, until nothing catches it any more: `seconds` from
    now, or when SIGTERM or SIGINT comes. Signals are added to `received`.
    """
    interruption = _Interruption(path, received)
    before = [(number, handler) for number, handler in signal_handlers()
              if number == signal.SIGALRM or number in STOPPING or callable(handler)]
    for number, _ in before:
        signal.signal(number, interruption.handle)
    # From here on no signal is written to the loop's wakeup descriptor, which an event loop in the file takes away.
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
                signal.raise_signal(number)  # now the loop is told


class _Interruption:
    """A `while True:` around a `try:` catches every exception that comes while the body runs. Tracing raises it on the next
    line instead, which is one of the handler's own. Functions of other modules that the file has called are left to clean
    up after the first interruption; if they do not return, each of their lines raises as well.
    """

    def __init__(self, path: str, received: List[int]) -> None:
        self._path = path
        self._received = received
        self._count = 0

    def handle(self, signum: int, frame: Optional[FrameType]) -> None:
        """The handler of the alarm and of the signals."""
        if signum != signal.SIGALRM:
            self._received.append(signum)
            if signum not in STOPPING:
                return
        if not self._is_inside(frame):  # the file has just returned, and this would hit the daemon itself
            return
        self._count += 1
        while frame and self._is_inside(frame):
            frame.f_trace = self._raise_on_line
            frame = frame.f_back
        sys.settrace(self._raise_on_line)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raise DeadlineError

    def _raise_on_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        """The trace function, for the time after the first interruption."""
        is_own = frame.f_code.co_filename == self._path
        if event == 'line' and (is_own or self._count > 1) and self._is_inside(frame):
            # Raising ends the tracing. If this is caught as well, the next alarm is to find the handler still at it.
            signal.setitimer(signal.ITIMER_REAL, _AT_ONCE, _AGAIN)
            raise DeadlineError
        return self._raise_on_line

    def _is_inside(self, frame: Optional[FrameType]) -> bool:
        """Whether the frame is one of the file, or was called from one, directly or not."""
        while frame:
            if frame.f_code.co_filename == self._path:
                return True
            frame = frame.f_back
        return False


def signal_handlers() -> List[Tuple[int, Any]]:
    """Every signal that can have a handler, and what it has; None if it was not Python that set it."""
    return [(number, _signal.getsignal(number)) for number in _SIGNALS]
