"""The gates that open by time, one by one and in a row, by a clock turned by hand."""

from __future__ import annotations

from typing import List, Optional

import pytest

from tests.support.fake_machine import FakeClock
from twitcher.config.spec import FailurePolicy
from twitcher.watches.gates import Row, Wait
from twitcher.watches.timing import Backoff, Repeat, Settle, Splay, retry_delay, splay_delay
from twitcher.watches.turns import Locks
from twitcher.znode import Event, Revision, Update


def update(event: Event = Event.CHANGED, attempt: int = 1) -> Update:
    """An update."""
    return Update(event, b'', 0, Revision(1, 1, 1), attempt)


class Starts:
    """When a gate was open."""

    def __init__(self, clock: FakeClock) -> None:
        self.times: List[float] = []
        self._clock = clock

    def start(self) -> None:
        """As Start says."""
        self.times.append(self._clock.time())


def test_settle_waits_for_quiet_after_the_last_update() -> None:
    clock = FakeClock()
    gate, starts = Settle(clock, 2), Starts(clock)
    for _ in range(3):
        gate.acquire(starts.start, update())
        clock.advance(1)
    assert gate.wait(starts.start) == Wait('settle', 4.0)
    clock.advance(100)
    assert starts.times == [4.0]
    assert gate.wait(starts.start) is None


def test_settle_is_put_off_no_longer_than_ten_times_its_seconds() -> None:
    clock = FakeClock()
    gate, starts = Settle(clock, 2), Starts(clock)
    for _ in range(50):
        gate.acquire(starts.start, update())
        clock.advance(1)
    assert starts.times == [20.0, 40.0]


@pytest.mark.parametrize(('event', 'attempt'), [(Event.LOAD, 1), (Event.REPEAT, 1), (Event.CHANGED, 2)])
def test_neither_load_nor_repeat_nor_retry_settles(event: Event, attempt: int) -> None:
    clock = FakeClock()
    gate, starts = Settle(clock, 2), Starts(clock)
    gate.acquire(starts.start, update(event, attempt))
    assert starts.times == [0.0]


def test_splay_is_not_moved_by_further_updates_and_delays_the_load_too() -> None:
    clock = FakeClock()
    gate, starts = Splay(clock, 5), Starts(clock)
    gate.acquire(starts.start, update(Event.LOAD))
    clock.advance(3)
    gate.acquire(starts.start, update())
    assert gate.wait(starts.start) == Wait('splay', 5.0)
    clock.advance(100)
    assert starts.times == [5.0]
    gate.acquire(starts.start, update(attempt=2))
    assert starts.times == [5.0, 103.0]


def test_the_splay_of_200_hosts_is_uniform_and_stable() -> None:
    hosts = [f'web{number:03}.example.com' for number in range(100)] + [f'10-0-{number}-7' for number in range(100)]
    delays = sorted(splay_delay(host, 'WATCH_DATA /git/head 01234567 1', 60) for host in hosts)
    assert delays[0] >= 0 and delays[-1] < 60
    # Kolmogorov-Smirnov: a uniform sample of 200 is farther off than this once in 1,000 times.
    assert max(abs(delay / 60 - (rank + 0.5) / 200) for rank, delay in enumerate(delays)) < 1.95 / 200 ** 0.5
    assert [round(splay_delay(host, 'WATCH_DATA /git/head 01234567 1', 60), 3) for host in hosts[:3]] == STABLE
    assert delays != sorted(splay_delay(host, 'WATCH_DATA /git/tail 01234567 1', 60) for host in hosts)


STABLE = [32.123, 25.067, 46.711]
"""Seconds. A machine keeps its slot over releases of Twitcher."""


@pytest.mark.parametrize(('attempt', 'delay'), [(2, 1.0), (3, 2.0), (4, 4.0), (5, 5.0), (10_000, 5.0)])
def test_the_delays_of_retries_grow_up_to_max_delay(attempt: int, delay: float) -> None:
    assert retry_delay(FailurePolicy(times=3, delay=1.0, backoff=2.0, max_delay=5.0), attempt) == delay


@pytest.mark.parametrize('delay', [0.0, 3.0])
def test_backoff_never_opens_within_the_call(delay: float) -> None:
    clock = FakeClock()
    gate, starts = Backoff(clock, FailurePolicy(times=1, delay=delay)), Starts(clock)
    gate.acquire(starts.start, update(attempt=2))
    assert starts.times == []
    clock.advance(3)
    assert starts.times == [delay]


def test_repeat_can_be_cancelled() -> None:
    clock = FakeClock()
    gate, starts = Repeat(clock, 3), Starts(clock)
    gate.acquire(starts.start, update())
    gate.cancel(starts.start)
    clock.advance(10)
    gate.acquire(starts.start, update())
    clock.advance(10)
    assert starts.times == [13.0]


# Rows

def test_the_gates_of_a_row_open_one_after_the_other_and_each_wait_is_told_once() -> None:
    clock, waits = FakeClock(), []

    def tell(wait: Wait, update: Optional[Update]) -> None:
        waits.append((clock.time(), *wait))

    row, starts = Row([Settle(clock, 2), Splay(clock, 5)], tell), Starts(clock)
    row.acquire(starts.start, update())
    clock.advance(1)
    row.acquire(starts.start, update())
    clock.advance(4)
    row.acquire(starts.start, update())
    assert row.wait(starts.start) == Wait('splay', 8.0)
    clock.advance(100)
    assert starts.times == [8.0]
    assert waits == [(0.0, 'settle', 2.0), (3.0, 'splay', 8.0)]


def test_a_row_that_is_cancelled_releases_what_it_has_acquired() -> None:
    clock, locks = FakeClock(), Locks()
    lock = locks.lock('a')
    row, other = Row([lock, Splay(clock, 5)], lambda wait, update: None), Starts(clock)
    row.acquire(other.start, update())
    lock.acquire(other.start)
    assert other.times == []
    row.cancel(other.start)
    assert other.times == [0.0]
    clock.advance(10)
    assert other.times == [0.0]


def test_an_empty_row_is_open() -> None:
    clock = FakeClock()
    row, starts = Row([], lambda wait, update: None), Starts(clock)
    row.acquire(starts.start, update())
    row.release()
    row.cancel(starts.start)
    assert starts.times == [0.0]
    assert row.wait(starts.start) is None
