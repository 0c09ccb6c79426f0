"""The gates of one watch that open after some time: settle, splay, the delay of a
retry, and repeat.

All go by the clock that is handed in, and none knows what it starts.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, List, NamedTuple, Optional, Protocol
from zlib import crc32

from twitcher.config.spec import FailurePolicy, WatchSpec
from twitcher.watches.gates import Gate, Start, Wait
from twitcher.znode import Event, Update

MAX_SETTLE = 10
"""The longest time that a stream of updates can put off a run, in multiples of
`settle`."""


class Timer(Protocol):
    """A call at a later time."""

    def cancel(self) -> None:
        """Do not make the call."""


class Clock(Protocol):
    """The event loop's clock."""

    def time(self) -> float:
        """Seconds on a monotonic clock."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call back after `delay` seconds."""


class Machine(NamedTuple):
    """What the schedules of all watches share: the clock, and the name of the host."""

    clock: Clock
    host: str


class Delay:
    """A gate that opens at the time that `_opens_at` returns; None if it is open
    already."""

    __slots__ = ('_clock', '_timer', '_since', '_until')
    reason = ''

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: Optional[Timer] = None
        self._since = self._until = 0.0

    def _opens_at(self, update: Update, now: float) -> Optional[float]:
        """When it opens for this update. The first one that waits arrived at
        `_since`."""
        raise NotImplementedError

    def acquire(self, start: Start, update: Optional[Update] = None) -> None:
        """As Gate says."""
        assert update
        now = self._clock.time()
        if not self._timer:
            self._since = now
        until = self._opens_at(update, now)
        if self._timer:
            if until is None or until == self._until:
                return
            self._timer.cancel()
        if until is None:
            start()
        else:
            self._until = until
            self._timer = self._clock.call_later(max(0.0, until - now), partial(self._open, start))

    def _open(self, start: Start) -> None:
        self._timer = None
        start()

    def release(self) -> None:
        """As Gate says."""

    def cancel(self, start: Start) -> None:
        """As Gate says."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def wait(self, start: Start) -> Optional[Wait]:
        """As Gate says."""
        return Wait(self.reason, self._until) if self._timer else None


class Settle(Delay):
    """Opens when there has been no update for `seconds`, or MAX_SETTLE times as long
    after the first one. Loads, retries and repetitions do not wait."""

    __slots__ = ('_seconds',)
    reason = 'settle'

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__(clock)
        self._seconds = seconds

    def _opens_at(self, update: Update, now: float) -> Optional[float]:
        if update.attempt > 1 or update.event in (Event.LOAD, Event.REPEAT):
            return None
        return min(now + self._seconds, self._since + MAX_SETTLE * self._seconds)


class Splay(Delay):
    """Opens `seconds` after the first update. Retries do not wait."""

    __slots__ = ('_seconds',)
    reason = 'splay'

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__(clock)
        self._seconds = seconds

    def _opens_at(self, update: Update, now: float) -> Optional[float]:
        return None if update.attempt > 1 else self._since + self._seconds


class Backoff(Delay):
    """Opens for a retry after the delay in the policy."""

    __slots__ = ('_policy',)
    reason = 'retry'

    def __init__(self, clock: Clock, policy: FailurePolicy) -> None:
        super().__init__(clock)
        self._policy = policy

    def _opens_at(self, update: Update, now: float) -> Optional[float]:
        return self._since + retry_delay(self._policy, update.attempt)


class Repeat(Delay):
    """Opens after `seconds`."""

    __slots__ = ('_seconds',)
    reason = 'repeat'

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__(clock)
        self._seconds = seconds

    def _opens_at(self, update: Update, now: float) -> Optional[float]:
        return self._since + self._seconds


def retry_delay(policy: FailurePolicy, attempt: int) -> float:
    """Seconds between a failure and this attempt, which is 2 for the first retry."""
    try:
        return float(min(policy.delay * policy.backoff ** (attempt - 2), policy.max_delay))
    except OverflowError:
        return policy.max_delay


def splay_delay(host: str, watch: str, splay: float) -> float:
    """Seconds that a watch waits on this host: always the same, less than `splay`, and
    uniform over hosts."""
    value = crc32(f'{host}\0{watch}'.encode('utf-8', 'surrogateescape'))
    # The CRCs of similar names are not uniform: mix their bits (fmix32 of MurmurHash3).
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value ^= value >> shift
        value = value * factor & 0xFFFFFFFF
    return (value ^ value >> 16) / 2 ** 32 * splay


def delays(name: str, spec: WatchSpec, machine: Machine) -> List[Gate]:
    """The gates that an update of the watch with this name passes before it is due."""
    timing, clock = spec.timing, machine.clock
    gates: List[Gate] = []
    if timing.settle:
        gates.append(Settle(clock, timing.settle))
    if timing.splay:
        gates.append(Splay(clock, splay_delay(machine.host, name, timing.splay)))
    return gates
