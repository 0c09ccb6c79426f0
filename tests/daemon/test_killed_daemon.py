"""What passes from one daemon to the next when it is killed at any moment, or when its state directory is in trouble."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.state_directory import fill, small_disk
from tests.support.waiting import Trace, wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer

ROUNDS = 8
WATCHES = 6


@pytest.fixture
def small_state(twitcher: Twitcher) -> Iterator[Path]:
    """The daemon's state directory, on a file system of its own, of 256 KiB."""
    directory = twitcher.directory / 'state'
    directory.mkdir()
    with small_disk(directory):
        yield directory


def assert_calm(twitcher: Twitcher, warnings: int) -> None:
    """So many warnings about the state, nothing worse, and no traceback."""
    assert len(twitcher.log_lines('WARNING: state: ')) == warnings
    assert twitcher.log_lines('Traceback|ERROR|CRITICAL') == []
    assert 'Traceback' not in twitcher.stdio()


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
    assert_calm(twitcher, 0)


def test_an_adopted_run_is_notified_as_its_own(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f"""
        RegisterWatch('/n', Exec(['python3', '-c', '''
        import signal
        signal.signal(signal.SIGUSR1, lambda *_: open("{trace}", "a").write("notified\\\\n"))
        open("{trace}", "a").write("begin\\\\n")
        while True: signal.pause()
        '''.replace('        ', '')]), notify_signal='SIGUSR1', run_on_load=False)
        """)
    ensemble.put('/n', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/n', 1)
    trace.wait_for_line('begin')
    twitcher.wait_log('n.twc: pid .* started')
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/n', 2)
    assert trace.wait(2) == ['begin', 'notified']


def test_adopted_parallel_runs_count_against_the_limit(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    go = twitcher.directory / 'go'
    twitcher.config('p.twc', f"""
        RegisterWatch('/p', Exec('echo `cat` >> {trace}; until [ -e {go} ]; do sleep 0.05; done'), run_mode=PARALLEL)""")
    ensemble.put('/p', 1)
    twitcher.start('--max_running', '2')
    trace.wait(1)
    ensemble.put('/p', 2)
    trace.wait(2)
    twitcher.wait_started('p.twc', 2)
    twitcher.kill()
    twitcher.start('--max_running', '2')
    twitcher.wait_log('2 PARALLEL runs are in progress')
    assert trace.lines() == ['1', '2']
    go.touch()
    assert trace.wait(3) == ['1', '2', '2']


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


def test_a_daemon_that_is_still_taking_its_leave_hands_over_all_the_same(tmp_path: Path, own_server: ThrowAwayServer,
                                                                         trace: Trace) -> None:
    part = Ensemble(own_server.hosts)
    part.put('/l', 1)
    twitcher = Twitcher(tmp_path, part.hosts)
    try:
        twitcher.config('l.twc', f"RegisterWatch('/l', Exec('echo `cat` >> {trace}; exec sleep 100'))")
        twitcher.start()
        trace.wait(1)
        twitcher.wait_log('l.twc: pid .* started')
        own_server.signal(signal.SIGSTOP)  # so that its leave takes as long as it can
        earlier = twitcher.process
        assert earlier
        earlier.send_signal(signal.SIGTERM)
        twitcher.start(wait=False)
        twitcher.wait_log('INFO: started; ', count=2)
        own_server.signal(signal.SIGCONT)
        earlier.wait()
        twitcher.wait_log('ZooKeeper: connected', count=2)
        twitcher.fence(part)
        assert trace.lines() == ['1']
    finally:
        own_server.signal(signal.SIGCONT)
        twitcher.close()
        part.close()


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


def test_a_full_disk_costs_a_warning_and_no_run(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                small_state: Path) -> None:
    twitcher.config('d.twc', f"RegisterWatch('/d', Exec('echo `cat` >> {trace}'))")
    ensemble.put('/d', 'first')
    twitcher.start()
    trace.wait_for_line('first')
    fill(small_state)
    for number in range(20):
        ensemble.put('/d', number)
        trace.wait_for_line(str(number))
    twitcher.kill()
    twitcher.start()
    trace.wait(22)
    twitcher.stop()
    (small_state / 'filler').unlink()
    assert 1 <= len(twitcher.log_lines('WARNING: state: ')) <= 2  # one of each daemon
    assert twitcher.log_lines('Traceback|ERROR|CRITICAL') == []


def test_a_state_directory_that_is_removed_costs_no_run_and_no_start(twitcher: Twitcher, ensemble: Ensemble,
                                                                     trace: Trace) -> None:
    twitcher.config('r.twc', f"RegisterWatch('/r', Exec('echo `cat` >> {trace}'))")
    ensemble.put('/r', 1)
    twitcher.start()
    trace.wait(1)
    shutil.rmtree(twitcher.directory / 'state')
    ensemble.put('/r', 2)
    trace.wait(2)
    twitcher.stop()
    twitcher.start()
    assert trace.wait(3) == ['1', '2', '2']
    assert_calm(twitcher, 0)


@pytest.mark.parametrize('name', ['\udcff.twc', 'ü.twc', 'a b\n.twc'])
def test_a_config_of_any_name_has_its_runs_waited_for(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, name: str) -> None:
    twitcher.config(name, f"RegisterWatch('/x', Exec('echo `cat` >> {trace}; exec sleep 100'), description='x')")
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
    assert_calm(twitcher, 0)
