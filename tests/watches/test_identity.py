"""What makes a watch the same one after its file was edited, renamed or read by another daemon: no run overlaps, no
update is lost, and nothing runs without a cause."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Callable, List

import pytest

from tests.support.configs import fence, slow, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace, wait_for

Edit = Callable[[], object]


@pytest.fixture(params=['while it runs', 'while no daemon runs'])
def edit(request: pytest.FixtureRequest, twitcher: Twitcher, ensemble: Ensemble) -> Callable[[Edit], None]:
    """Change the files under a running daemon, or between two; return when the change has been seen."""
    def change(action: Edit) -> None:
        if request.param == 'while it runs':
            fence(twitcher, ensemble)
            action()
        else:
            twitcher.kill()
            action()
            twitcher.start('--verbose')
        fence(twitcher, ensemble)

    return change


def begun(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    """A daemon is there, and its slow watch has begun a run for the contents 0."""
    ensemble.put('/a', 0)
    twitcher.start('--verbose')
    trace.wait_for_line('slow begin 0')


def begun_with_one_pending(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    """A daemon is there; its slow watch, with run_on_load=False, has begun a run for 1, and 2 waits for it."""
    ensemble.put('/a', 0)
    twitcher.start('--verbose')
    fence(twitcher, ensemble)
    ensemble.put('/a', 1)
    trace.wait_for_line('slow begin 1')
    ensemble.put('/a', 2)
    twitcher.wait_log(r'\.twc(#2)?: changed .* waits for the run in progress')


def end(trace: Trace, gate: Path, lines: List[str]) -> None:
    """Let the slow watch come to its end; then there are these lines, in this order."""
    assert 'slow end' not in trace.lines()
    gate.touch()
    assert trace.wait(len(lines)) == lines


def test_a_watch_put_above_one_that_runs_and_is_edited_costs_no_overlap(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, edit: Callable[[Edit], None]) -> None:
    twitcher.config('a.twc', slow('/a', trace, gate))
    begun(twitcher, ensemble, trace)
    edit(lambda: twitcher.config('a.twc', watch('/a', trace, 'new', 'run_on_load=False')
                                 + slow('/a', trace, gate, 'slow', 'timeout=300')))
    ensemble.put('/a', 1)
    trace.wait_for_line('new changed 1')
    fence(twitcher, ensemble)
    end(trace, gate, ['slow begin 0', 'new changed 1', 'slow end', 'slow begin 1', 'slow end'])


def test_a_watch_whose_command_is_edited_too_does_not_overlap_though_another_is_put_above(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, edit: Callable[[Edit], None]) -> None:
    twitcher.config('a.twc', slow('/a', trace, gate))
    begun(twitcher, ensemble, trace)
    edit(lambda: twitcher.config('a.twc', watch('/a', trace, 'above', 'run_on_load=False')
                                 + slow('/a', trace, gate, 'edited')))
    ensemble.put('/a', 1)
    fence(twitcher, ensemble)
    assert trace.lines() == ['slow begin 0']
    gate.touch()
    assert sorted(trace.wait(5)[2:]) == ['above changed 1', 'edited begin 1', 'edited end']


@pytest.mark.parametrize('options', [(), ('timeout=300',)], ids=['unchanged', 'edited'])
def test_a_file_that_is_renamed_during_a_run_costs_no_overlap(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, edit: Callable[[Edit], None],
        options: List[str]) -> None:
    path = twitcher.config('a.twc', slow('/a', trace, gate))
    begun(twitcher, ensemble, trace)

    def rename() -> None:
        path.rename(path.with_name('b.twc'))
        if options:
            twitcher.config('b.twc', slow('/a', trace, gate, 'slow', *options))

    edit(rename)
    ensemble.put('/a', 1)
    fence(twitcher, ensemble)
    assert trace.lines() == ['slow begin 0']
    end(trace, gate, ['slow begin 0', 'slow end', 'slow begin 1', 'slow end'])


def test_a_watch_does_not_wait_for_the_run_of_another_that_has_moved_down(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, edit: Callable[[Edit], None]) -> None:
    twitcher.config('a.twc', slow('/a', trace, gate))
    begun(twitcher, ensemble, trace)
    edit(lambda: twitcher.config('a.twc', watch('/a', trace, 'quick') + slow('/a', trace, gate)))
    assert trace.wait_for_line('quick load 0') == ['slow begin 0', 'quick load 0']
    ensemble.put('/a', 1)
    assert trace.wait_for_line('quick changed 1') == ['slow begin 0', 'quick load 0', 'quick changed 1']


def test_a_watch_that_stays_alone_does_not_wait_for_the_run_of_one_that_was_removed(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, edit: Callable[[Edit], None]) -> None:
    twitcher.config('a.twc', slow('/a', trace, gate) + watch('/a', trace, 'quick'))
    begun(twitcher, ensemble, trace)
    trace.wait_for_line('quick load 0')
    twitcher.wait_ended('a.twc#2')
    edit(lambda: twitcher.config('a.twc', watch('/a', trace, 'quick', 'timeout=300')))
    ensemble.put('/a', 1)
    trace.wait_for_line('quick changed 1')


@pytest.mark.parametrize('how', ['a watch above it is removed', 'a watch is put above it', 'its file is renamed',
                                 'it is moved to another file that is read before', 'it is moved to one that is read after',
                                 'its timeout is edited', 'its command is edited'])
def test_a_pending_update_is_run_for_once_though(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, edit: Callable[[Edit], None], how: str) -> None:
    def waiting(name: str = 'slow', *more: str) -> str:
        return slow('/a', trace, gate, name, 'run_on_load=False', *more)

    above = watch('/a', trace, 'above', 'run_on_load=False')
    path = twitcher.config('m.twc', (above if 'removed' in how else '') + waiting())
    begun_with_one_pending(twitcher, ensemble, trace)
    if 'removed' in how:
        trace.wait_for_line('above changed 2')
    before = [line for line in trace.lines() if 'above' in line]

    def change() -> None:
        if how == 'its file is renamed':
            path.rename(path.with_name('b.twc'))
        elif 'moved' in how:
            twitcher.config('a.twc' if 'before' in how else 'z.twc', waiting())
            twitcher.config('m.twc', '')
        else:
            twitcher.config('m.twc', {
                'a watch above it is removed': waiting(),
                'a watch is put above it': watch('/a', trace, 'new', 'run_on_load=False') + waiting(),
                'its timeout is edited': waiting('slow', 'timeout=300'),
                'its command is edited': waiting('other'),
            }[how])

    edit(change)
    assert 'slow end' not in trace.lines()
    gate.touch()
    name = 'other' if how == 'its command is edited' else 'slow'
    trace.wait_for_line(f'{name} begin 2')
    fence(twitcher, ensemble)
    rest = [line for line in trace.lines() if line not in before]
    assert rest[:4] == ['slow begin 1', 'slow end', f'{name} begin 2', f'{name} end'][:len(rest)]
    assert [line for line in trace.lines() if 'begin' in line] == ['slow begin 1', f'{name} begin 2']
    assert not [line for line in trace.lines() if 'new' in line]


@pytest.mark.parametrize('how', ['renamed', 'taken away and put back at once', 'its watches in another order'])
def test_an_idle_file_runs_nothing_when_it_is(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, how: str) -> None:
    texts = [watch('/a', trace, name) for name in 'xyz']
    path = twitcher.config('a.twc', ''.join(texts))
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait(3)
    if how == 'renamed':
        path.rename(path.with_name('b.twc'))
        twitcher.wait_log(r'b\.twc: loaded, 3 watches, 3 of them unchanged')
    elif how == 'taken away and put back at once':
        path.unlink()
        twitcher.wait_log(r'a\.twc: removed')
        twitcher.config('a.twc', ''.join(texts))
        twitcher.wait_log(r'a\.twc: loaded', 2)
    else:
        twitcher.config('a.twc', ''.join(texts[::-1]))
    fence(twitcher, ensemble)
    assert sorted(trace.lines()) == [f'{name} load 0' for name in 'xyz']
    ensemble.put('/a', 1)
    assert sorted(trace.wait(6)[3:]) == [f'{name} changed 1' for name in 'xyz']


def test_a_watch_that_went_while_no_daemon_ran_leaves_no_row_and_no_pending_update(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    path = twitcher.config('a.twc', slow('/a', trace, gate, 'slow', 'run_on_load=False'))
    twitcher.config('b.twc', watch('/a', trace, 'stays', 'run_on_load=False'))
    begun_with_one_pending(twitcher, ensemble, trace)
    trace.wait_for_line('stays changed 2')
    twitcher.stop()
    gate.touch()
    trace.wait_for_line('slow end')
    text = path.read_text()
    path.unlink()
    twitcher.start()
    wait_for_rows(twitcher, 2)  # with that of the fence
    twitcher.stop()
    path.write_text(text)
    twitcher.start()
    twitcher.wait_log(r'a\.twc: loaded', 2)
    fence(twitcher, ensemble)
    assert 'slow begin 2' not in trace.lines()


def test_what_is_pending_for_a_file_that_does_not_load_waits_for_it(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    text = slow('/a', trace, gate, 'slow', 'run_on_load=False')
    twitcher.config('a.twc', text)
    begun_with_one_pending(twitcher, ensemble, trace)
    twitcher.stop()
    gate.touch()
    trace.wait_for_line('slow end')
    twitcher.config('a.twc', '# an error in between\n(')
    for state in (twitcher.directory / 'state').glob('*good*'):  # where there are last good texts, this file has none
        state.unlink()
    twitcher.start()
    twitcher.config('gone.twc', watch('/gone', trace, 'gone'))
    twitcher.wait_log(r'gone\.twc: loaded')
    (twitcher.configs / 'gone.twc').unlink()
    twitcher.wait_log(r'gone\.twc: removed')
    fence(twitcher, ensemble)
    twitcher.config('a.twc', text)
    trace.wait_for_line('slow begin 2')


def wait_for_rows(twitcher: Twitcher, count: int) -> None:
    """Wait until the state knows no more than so many watches. It is read from a copy, for the daemon has it locked."""
    (path,) = (twitcher.directory / 'state').glob('*.0.sqlite3')

    def rows() -> bool:
        for name in ('', '-wal'):
            source, copy = Path(f'{path}{name}'), twitcher.directory / f'copy{name}'
            copy.write_bytes(source.read_bytes() if source.exists() else b'')
        connection = sqlite3.connect(twitcher.directory / 'copy')
        try:
            ((found,),) = connection.execute('SELECT count(*) FROM watch')
        finally:
            connection.close()
        return bool(found <= count)

    wait_for(f'{count} rows at most', rows)
