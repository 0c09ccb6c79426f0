"""A program whose exec takes long: nothing waits for it but its own watch."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, Optional

import pytest

from tests.support import configs
from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.held_program import children_before_exec, exec_blocked, write_script
from tests.support.processes import is_alive
from tests.support.waiting import Trace, wait_for

AT_ONCE = 10.0
"""Seconds: much less than an exec is held up for, and enough for a loaded machine."""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may look into."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@contextlib.contextmanager
def before_exec(twitcher: Twitcher, ensemble: Ensemble, program: Path) -> Iterator[int]:
    """In a with block: a run of /s for the contents 1 has a process, whose pid this is, that cannot execute its program."""
    with exec_blocked(program):
        ensemble.put('/s', 1)
        [pid] = wait_for('the program to be about to be executed', lambda: children_before_exec(twitcher.pid))
        yield pid


def kill_both(twitcher: Twitcher, run: int) -> None:
    """SIGKILL for the daemon, then for the run."""
    twitcher.kill()
    os.kill(run, signal.SIGKILL)
    wait_for('the end of the run', lambda: not is_alive(run))


def _has(trace: Trace, line: str) -> bool:
    return line in trace.lines()


@pytest.mark.parametrize(('number', 'umask'), [(1, None), (12, None), (1, 0o027), (12, 0o027)])
def test_programs_that_take_long_to_be_executed_hold_up_no_other_watch(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path, number: int, umask: Optional[int]) -> None:
    slow = [write_script(tmp_path / f'slow{each}', f'echo slow {each} >> {trace}') for each in range(number)]
    twitcher.config('q.twc', f"RegisterWatch('/q', Exec('echo quick `cat` >> {trace}'))")
    twitcher.config('s.twc', f'''
        for number in range({number}):
            RegisterWatch('/s', Exec(['{tmp_path}/slow%d' % number]), description='s%d' % number, umask={umask})
    ''')
    ensemble.put('/q', 0)
    twitcher.start()
    trace.wait_for_line('quick 0')
    with exec_blocked(*slow):
        ensemble.put('/s', 1)
        wait_for('the programs to be about to be executed', lambda: children_before_exec(twitcher.pid), AT_ONCE)
        for turn in range(1, 4):
            ensemble.put('/q', turn)
            wait_for('the other watch to run', partial(_has, trace, f'quick {turn}'), AT_ONCE)
        assert not twitcher.log_lines(r': s\d+: pid')
    for each in range(number):
        trace.wait_for_line(f'slow {each}')
        twitcher.wait_ended(f's{each}')


def test_a_program_that_takes_long_to_be_executed_is_ended_for_an_update(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    slow = write_script(tmp_path / 'slow', f'echo `cat` >> {trace}; exec sleep 1000')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']), run_mode=RESTART)")
    twitcher.start()
    with exec_blocked(slow):
        ensemble.put('/s', 1)
        wait_for('the program to be about to be executed', lambda: children_before_exec(twitcher.pid), AT_ONCE)
        ensemble.put('/s', 2)
        twitcher.wait_log(r's.twc: an update ends pid \d+')
    assert trace.wait(1)[-1] == '2' or trace.wait(2)[-1] == '2'
    twitcher.fence(ensemble)
    assert not twitcher.log_lines('ERROR|Traceback')


def test_more_programs_that_hang_than_may_wait_in_line(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    slow = [write_script(tmp_path / f'slow{each}', f'echo slow {each} >> {trace}') for each in range(40)]
    twitcher.config('s.twc', f'''
        for number in range(40):
            RegisterWatch('/s', Exec(['{tmp_path}/slow%d' % number]), description='s%d' % number)
        RegisterWatch('/f', lambda: print('a function needs no exec'), description='f')
    ''')
    twitcher.start()
    with exec_blocked(*slow):
        ensemble.put('/s', 1)
        wait_for('32 programs to be about to be executed', lambda: len(children_before_exec(twitcher.pid)) == 32)
        ensemble.put('/f', 1)
        wait_for('the function to run', lambda: twitcher.ended('f'), AT_ONCE)
    for each in range(40):
        trace.wait_for_line(f'slow {each}')
    twitcher.fence(ensemble)
    assert sorted(trace.lines()) == sorted(f'slow {each}' for each in range(40))


@pytest.mark.parametrize('end', [Twitcher.stop, Twitcher.kill], ids=['stopped', 'killed'])
def test_a_daemon_ends_while_a_program_is_being_executed_and_the_next_one_waits_for_it(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, tmp_path: Path,
        end: Callable[[Twitcher], object]) -> None:
    slow = write_script(tmp_path / 'slow', f'echo begin `cat` >> {trace}; {until(gate)}; echo end >> {trace}')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']))")
    with exec_blocked(slow):
        ensemble.put('/s', 1)
        twitcher.start()
        [pid] = wait_for('the program to be about to be executed', lambda: children_before_exec(twitcher.pid))
        before = time.monotonic()
        end(twitcher)
        assert time.monotonic() - before < AT_ONCE
        assert is_alive(pid)
        ensemble.put('/s', 2)
        twitcher.start()
        twitcher.wait_log(f's.twc: pid {pid} of an earlier daemon is still running')
        twitcher.fence(ensemble)
        assert trace.lines() == []
    trace.wait_for_line('begin 1')
    twitcher.fence(ensemble)
    assert trace.lines() == ['begin 1']
    gate.touch()
    assert trace.wait(4) == ['begin 1', 'end', 'begin 2', 'end']


def test_a_timeout_counts_from_the_start_though_the_program_is_still_to_be_executed(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    slow = write_script(tmp_path / 'slow', f'echo `cat` >> {trace}')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']), timeout=1)")
    twitcher.start()
    with before_exec(twitcher, ensemble, slow) as pid:
        wait_for('the end of the process', lambda: not is_alive(pid), AT_ONCE)
        twitcher.wait_log(f's.twc: pid {pid} is still running after 1 s')
        assert twitcher.wait_ended('s.twc') == ['was killed by SIGTERM']
    ensemble.put('/s', 2)
    assert trace.wait(1) == ['2']


def test_a_signal_for_a_run_that_is_still_to_be_executed_is_sent_when_it_has_been(
        twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    slow = write_script(tmp_path / 'slow', 'exec sleep 1000')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']), notify_signal='SIGUSR1')")
    twitcher.start()
    with before_exec(twitcher, ensemble, slow) as pid:
        ensemble.put('/s', 2)
        twitcher.fence(ensemble)
        assert is_alive(pid)
    assert twitcher.wait_ended('s.twc') == ['was killed by SIGUSR1']
    twitcher.wait_log('s.twc: SIGUSR1 to pid')


def test_a_run_whose_process_was_never_noted_nor_found_is_made_up_for(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    slow = write_script(tmp_path / 'slow', f'echo `cat` >> {trace}')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']), run_on_load=False)")
    ensemble.put('/s', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    with before_exec(twitcher, ensemble, slow) as pid:
        kill_both(twitcher, pid)
    assert trace.lines() == []
    twitcher.start()
    assert trace.wait(1) == ['1']


def test_a_run_that_was_never_noted_is_made_up_for_by_the_new_version_of_its_watch(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    slow = write_script(tmp_path / 'slow', f'echo `cat` >> {trace}')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']), run_on_load=False)")
    ensemble.put('/s', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    with before_exec(twitcher, ensemble, slow) as pid:
        twitcher.config('s.twc', f"RegisterWatch('/s', Exec('echo new `cat` >> {trace}'), run_on_load=False)")
        configs.fence(twitcher, ensemble)
        kill_both(twitcher, pid)
    assert trace.lines() == []
    twitcher.start()
    assert trace.wait(1) == ['new 1']


def test_the_log_tells_of_a_program_that_takes_long_to_be_executed(
        twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    slow = write_script(tmp_path / 'slow', 'true')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']))")
    twitcher.start()
    with exec_blocked(slow):
        ensemble.put('/s', 1)
        twitcher.wait_log(r'WARNING: s.twc: its program has not been executed after 1\d')
    assert twitcher.wait_ended('s.twc') == ['exited 0']


@pytest.mark.parametrize('uid', ['', ", uid='nobody'"], ids=['as root', 'as nobody'])
def test_a_program_that_is_being_executed_dies_of_its_timeout_at_the_latest_after_the_grace(
        twitcher: Twitcher, ensemble: Ensemble, open_directory: Path, uid: str) -> None:
    slow = write_script(open_directory / 'slow', 'echo `id -un` `cat`')
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec(['{slow}']), timeout=1{uid})")
    ensemble.put('/s', 0)
    twitcher.start()
    name = 'nobody' if uid else 'root'
    assert twitcher.wait_printed('s.twc', 1) == [f'{name} 0']
    with exec_blocked(slow):
        ensemble.put('/s', 1)
        # A fork of the daemon, which a change of user needs, still has its handlers: SIGTERM interrupts the exec.
        twitcher.wait_log(r's.twc: .*(was killed by SIGTERM|Interrupted system call \(within its timeout\))')
    ensemble.put('/s', 2)
    assert twitcher.wait_printed('s.twc', 2) == [f'{name} 0', f'{name} 2']


def test_an_edit_while_a_program_is_still_to_be_executed_and_one_back_do_not_let_runs_overlap(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    slow, go = write_script(tmp_path / 'slow', f'echo slow `cat` >> {trace}'), tmp_path / 'go'
    first = f"RegisterWatch('/s', Exec(['{slow}']), run_on_load=False)"
    twitcher.config('s.twc', first)
    ensemble.put('/s', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    with before_exec(twitcher, ensemble, slow):
        twitcher.config('s.twc', configs.slow('/s', trace, go, 'other', 'run_on_load=False'))
        configs.fence(twitcher, ensemble)
    trace.wait_for_line('slow 1')
    ensemble.put('/s', 2)
    trace.wait_for_line('other begin 2')
    twitcher.config('s.twc', first)
    configs.fence(twitcher, ensemble)
    ensemble.put('/s', 3)
    twitcher.fence(ensemble)
    assert trace.lines() == ['slow 1', 'other begin 2']
    go.touch()
    assert trace.wait(4) == ['slow 1', 'other begin 2', 'other end', 'slow 3']
