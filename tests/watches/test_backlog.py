"""PARALLEL updates that wait for a slot: how many are kept, of which watches, and whose turn it is."""

from __future__ import annotations

from typing import List

import pytest

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.fake_machine import FakeMachine, Znode
from tests.support.waiting import Trace, wait_for
from twitcher.config.spec import RunMode


class Waiting:
    """A queue of sizes."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.sizes: List[int] = []

    def drop_oldest(self) -> int:
        """As backlog.Queue says."""
        return self.sizes.pop(0)


def test_a_flood_of_large_updates_costs_a_bounded_amount_of_memory_and_the_newest_runs(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    go = twitcher.directory / 'go'
    twitcher.config('p.twc', f"RegisterWatch('/p', Exec('head -c 6 >> {trace}; echo >> {trace}; "
                             f"{until(go)}'), run_mode=PARALLEL, run_on_load=False)")
    twitcher.config('q.twc', f"RegisterWatch('/q', Exec('echo q `cat` >> {trace}'), run_mode=PARALLEL, run_on_load=False)")
    ensemble.put('/p', 'begin ')
    ensemble.put('/q', 0)
    twitcher.start('--max_running', '1', '--debug')
    twitcher.wait_log('ZooKeeper: connected')
    ensemble.put('/seen', 0)
    twitcher.config('seen.twc', f"RegisterWatch('/seen', Exec('echo seen >> {trace}'))")
    trace.wait_for_line('seen')
    ensemble.put('/p', 'first ')
    trace.wait_for_line('first ')
    ensemble.put('/q', 1)
    before = resident(twitcher.pid)
    for number in range(6000):  # of a size that the server's small heap can take
        ensemble.client.set('/p', f'{number:6}'.encode() + bytes(20_000))
    assert resident(twitcher.pid) - before < 100_000
    assert twitcher.log_lines('p.twc: too many updates wait for a run')
    go.touch()
    wait_for('the newest', lambda: f'{5999:6}' in trace.lines())
    assert 'q 1' in trace.lines()
    assert len(twitcher.log_lines('p.twc: too many updates wait for a run')) == 1
    twitcher.wait_log(r'p\.twc: \d+ updates that waited for a run were dropped')
    assert not twitcher.log_lines(r'q\.twc: .*dropped|q\.twc: too many')


def resident(pid: int) -> int:
    """The memory of a process, in kB."""
    with open(f'/proc/{pid}/status') as file:
        return int(next(line for line in file if line.startswith('VmRSS:')).split()[1])


def test_a_watch_with_many_updates_does_not_starve_another(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    go = twitcher.directory / 'go'
    twitcher.config('f.twc', f"""
        for name in ('flood', 'other'):
            RegisterWatch('/' + name, Exec('echo %s `cat` >> {trace}; {until(go)}' % name),
                          run_mode=PARALLEL, run_on_load=False, description=name)""")
    ensemble.put('/flood', 0)
    ensemble.put('/other', 0)
    ensemble.put('/queue', 0)
    twitcher.config('queue.twc', f"RegisterWatch('/queue', Exec('echo queue `cat` >> {trace}'))")
    twitcher.start('--max_running', '1')
    trace.wait_for_line('queue 0')
    for number in range(1, 20):
        ensemble.put('/flood', number)
        ensemble.put('/queue', number)
        trace.wait_for_line(f'queue {number}')  # so that each of them has been received
    ensemble.put('/other', 1)
    ensemble.put('/queue', 20)
    trace.wait_for_line('queue 20')
    go.touch()
    trace.wait_for_line('flood 19')
    lines = [line for line in trace.lines() if 'queue' not in line]
    assert lines[:4] == ['flood 1', 'flood 2', 'other 1', 'flood 3']


def test_the_oldest_of_the_watch_with_most_are_dropped_and_each_keeps_its_newest(caplog: pytest.LogCaptureFixture) -> None:
    from twitcher.watches.backlog import Backlog  # here: the other tests are to run on releases without it

    backlog = Backlog(max_updates=10, max_bytes=1000)
    flood, *others = queues = [Waiting(name) for name in ('flood', 'a', 'b', 'c')]

    def add(queue: Waiting, size: int) -> None:
        queue.sizes.append(size)
        backlog.add(queue, size)

    for number in range(50):
        add(flood, number)
    assert flood.sizes == list(range(40, 50))
    for queue in others:
        add(queue, 1)
        add(queue, 2)
    assert [queue.sizes for queue in queues] == [[46, 47, 48, 49], [1, 2], [1, 2], [1, 2]]
    add(others[0], 990)
    assert [queue.sizes[-1] for queue in queues] == [49, 990, 2, 2]
    add(flood, 5000)
    assert [queue.sizes[-1] for queue in queues] == [5000, 990, 2, 2]
    assert sum(message.startswith('flood: too many') for message in caplog.messages) == 1
    for queue in queues:
        while queue.sizes:
            backlog.remove(queue, queue.sizes.pop(0))
    assert 'flood: 50 updates that waited for a run were dropped' in caplog.messages


def test_slots_go_round_the_watches_that_wait() -> None:
    machine, znodes = FakeMachine(limit=1), [Znode() for _ in range(3)]
    watches = [machine.watch(run_mode=RunMode.PARALLEL) for _ in znodes]
    for number, (watch, znode) in enumerate(zip(watches, znodes)):
        for update in range(3):
            watch.on_state(znode.put(f'{number}{update}'))
    machine.end_all()
    assert machine.started == ['00', '01', '10', '20', '02', '11', '21', '12', '22']
