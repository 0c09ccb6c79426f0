"""A daemon that is killed at any moment: the next one loses no update, and no two runs of a watch overlap."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.actions import endless
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.state_directory import assert_state_warnings
from tests.support.waiting import Trace, wait_for

ROUNDS = 8
WATCHES = 6


@pytest.mark.parametrize('seed', [1, 2])
def test_daemons_killed_at_any_moment_lose_and_double_nothing(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                              seed: int) -> None:
    chance = random.Random(seed)
    locks = twitcher.directory / 'locks'
    locks.mkdir()
    for number in range(WATCHES):
        ensemble.put(f'/w{number}', 0)
    twitcher.config('w.twc', f"""
        for number in range({WATCHES}):
            RegisterWatch('/w%d' % number, Exec('''
                mkdir {locks}/%d 2>/dev/null || echo overlap %d >> {trace}
                read contents; sleep 0.%d
                rmdir {locks}/%d; echo %d $contents >> {trace}''' % (number, number, number, number, number)))
        """)
    for change in range(ROUNDS):
        twitcher.start(wait=change % 2 == 0)
        for number in chance.sample(range(WATCHES), 4):
            ensemble.put(f'/w{number}', f'{change}')
            time.sleep(chance.random() * 0.1)
        for number in range(WATCHES):
            ensemble.put(f'/w{number}', f'last {change}')
        time.sleep(chance.random() * 0.3)
        twitcher.kill()
    twitcher.start()
    for number in range(WATCHES):
        trace.wait_for_line(f'{number} last {ROUNDS - 1}')
    assert [line for line in trace.lines() if 'overlap' in line] == []
    assert_state_warnings(twitcher, 0)


def test_a_watch_does_not_wait_for_the_run_that_another_one_on_its_znode_has_left(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    ensemble.put('/s', 1)
    twitcher.config('s.twc', f"""
        RegisterWatch('/s', Exec('echo slow `cat` >> {trace}; exec sleep 100'), description='slow')
        RegisterWatch('/s', Exec('echo quick `cat` >> {trace}'), description='quick')
        """)
    twitcher.start()
    trace.wait(2)
    twitcher.wait_ended('quick')
    twitcher.kill()
    ensemble.put('/s', 2)
    twitcher.start()
    twitcher.fence(ensemble)
    trace.wait_for_line('quick 2')
    assert 'slow 2' not in trace.lines()


def test_a_file_that_is_away_while_its_run_goes_on_comes_back_without_an_overlap(twitcher: Twitcher, ensemble: Ensemble,
                                                                                 trace: Trace) -> None:
    text = f"RegisterWatch('/b', Exec('echo begin >> {trace}; cat {twitcher.directory}/gate; echo end >> {trace}'))"
    os.mkfifo(twitcher.directory / 'gate')
    ensemble.put('/b', 1)
    path = twitcher.config('b.twc', text)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_log('b.twc: pid .* started')
    twitcher.kill()
    path.unlink()
    twitcher.start()
    twitcher.fence(ensemble)
    twitcher.config('b.twc', text)
    twitcher.wait_log('b.twc: loaded', count=2)
    twitcher.fence(ensemble)
    assert trace.lines() == ['begin']
    for _ in range(2):
        (twitcher.directory / 'gate').write_text('go\n')
        wait_for('an end', lambda: trace.lines()[-1] == 'end' or len(trace.lines()) == 3)
    assert trace.wait(4) == ['begin', 'end', 'begin', 'end']


def test_a_function_run_as_somebody_else_is_waited_for_too(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    trace.path.touch()
    trace.path.chmod(0o666)
    for parent in list(trace.path.parents)[:-2]:  # but for /tmp and /
        parent.chmod(0o755)
    twitcher.config('f.twc', f"""
        import os, time

        def slow():
            with open('{trace}', 'a', 1) as file:
                file.write('begin %d\\n' % os.getuid())
                while not os.path.exists('{trace}.go'):
                    time.sleep(0.02)
                file.write('end\\n')

        RegisterWatch('/f', slow, uid='nobody')
        """)
    ensemble.put('/f', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_log('f.twc: pid .* started')
    twitcher.kill()
    ensemble.put('/f', 2)
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['begin 65534']
    Path(f'{trace}.go').touch()
    assert trace.wait(4) == ['begin 65534', 'end'] * 2


@pytest.mark.parametrize('name', ['\udcff.twc', 'ü.twc', 'a b\n.twc'])
def test_a_config_of_any_name_has_its_runs_waited_for(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, name: str) -> None:
    twitcher.config(name, f"RegisterWatch('/x', {endless(trace)}, description='x')")
    ensemble.put('/x', 1)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_log(': x: pid .* started')
    twitcher.kill()
    ensemble.put('/x', 2)
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['1']
    (pid,) = twitcher.wait_started('x')
    os.killpg(pid, signal.SIGKILL)
    assert trace.wait(2) == ['1', '2']
    assert not is_alive(pid)
    assert_state_warnings(twitcher, 0)
