"""Runs that the machine refuses, or that fail for a reason that nobody foresaw: each is tried again, in one queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import Bench, Znode
from tests.harness import Ensemble, Trace, Twitcher, wait_for
from twitcher.errors import SpawnError
from twitcher.spec import RunMode

WATCHES = 150


def test_watches_that_are_refused_for_want_of_descriptors_wait_in_one_queue(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('r.twc', f'''
        for number in range({WATCHES}):
            RegisterWatch('/r', Exec('echo `cat` >> {trace}; until [ -e {trace}.go ]; do sleep 0.3; done'))
    ''')
    twitcher.start(wrapper=['prlimit', '--nofile=160:160'])
    ensemble.put('/r', 1)
    twitcher.wait_log('r.twc#.*Too many open files; trying again')
    assert len(trace.lines()) < WATCHES
    Path(f'{trace}.go').touch()
    assert trace.wait(WATCHES) == ['1'] * WATCHES
    assert len(twitcher.log_lines('trying again')) == 1
    twitcher.wait_log('all runs that the machine had no room for have been started')


_SITE = '''
import os
real = os.pipe2
def pipe2(flags):
    if os.path.exists({path!r}):
        os.unlink({path!r})
        raise MemoryError('the test says so')
    return real(flags)
os.pipe2 = pipe2
'''


def test_an_exception_that_nobody_foresaw_in_the_start_of_a_run_loses_no_update(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    fault = tmp_path / 'fault'
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(_SITE.format(path=str(fault)))
    twitcher.config('m.twc', f"RegisterWatch('/m', Exec('echo `cat` >> {trace}'), pipe_stdin=False, description='m')\n"
                             f"RegisterWatch('/n', lambda: open('{trace}', 'a').write('n\\n') and None, pipe_stdin=False)")
    ensemble.put('/m', 0)
    ensemble.put('/n', 0)
    twitcher.start(environment={'PYTHONPATH': str(tmp_path / 'site')})
    trace.wait(2)
    for znode in ('/m', '/n'):
        fault.touch()
        ensemble.put(znode, 1)
        wait_for('the fault', lambda: not fault.exists())
    trace.wait(4)
    assert len(twitcher.log_lines('ERROR: .*MemoryError.*trying again')) == 2


def transient(shortage: bool = False) -> SpawnError:
    """Why a run was refused."""
    return SpawnError('no run: the test says so', transient=True, is_shortage=shortage)


def test_an_update_whose_run_fails_to_start_in_the_end_is_run_later() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch()
    watch.state_is(znode.put('first'))
    bench.active[0].end(transient())
    assert bench.started == ['first']
    bench.wait(1)
    assert bench.started == ['first', 'first']
    bench.end_all()
    bench.wait(10)
    assert bench.started == ['first', 'first']


@pytest.mark.parametrize('mode', [RunMode.QUEUE, RunMode.DISCARD])
def test_a_newer_update_takes_the_place_of_one_whose_run_fails_to_start(mode: RunMode) -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_mode=mode)
    watch.state_is(znode.put('first'))
    watch.state_is(znode.put('second'))
    bench.active[0].end(transient())
    bench.wait(1)
    assert bench.started[-1] == 'second'
    bench.end_all()
    bench.wait(10)
    assert bench.started == ['first', 'second']


def test_updates_of_a_parallel_watch_keep_their_order_though_their_runs_fail_to_start_in_another() -> None:
    bench, znode = Bench(), Znode()
    watch = bench.watch(run_mode=RunMode.PARALLEL)
    for contents in 'abc':
        watch.state_is(znode.put(contents))
    for run in reversed(bench.active):
        run.end(transient())
    watch.state_is(znode.put('d'))
    bench.wait(1)
    assert bench.started == [*'abc', *'abcd']


def test_a_refused_run_is_tried_again_as_soon_as_another_run_has_ended() -> None:
    bench, znode = Bench(), Znode()
    first, second = bench.watch(), bench.watch()
    state = znode.put('x')
    first.state_is(state)
    second.state_is(state)
    bench.runs[1].end(transient(shortage=True))
    bench.runs[0].end()
    bench.retries.serve()
    bench.wait(0)
    assert len(bench.runs) == 3


def test_a_shortage_is_logged_once_when_it_begins_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level('INFO')
    bench, state = Bench(), Znode().put('x')
    for _ in range(100):
        bench.watch().state_is(state)
    for run in bench.active:
        run.end(transient(shortage=True))
    for _ in range(8):
        bench.wait(1)
    bench.retries.serve()
    bench.wait(0)
    assert len(bench.runs) == 200
    assert caplog.messages == ['w: no run: the test says so; trying again',
                               'all runs that the machine had no room for have been started']
