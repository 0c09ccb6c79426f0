"""--max_running: how many PARALLEL runs a daemon has in progress at once, those of the daemon before it included."""

from __future__ import annotations

from pathlib import Path

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace


def test_parallel_runs_past_the_bound_wait_in_order_and_none_is_dropped(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                       tmp_path: Path) -> None:
    seen = Trace(tmp_path / 'seen')
    gate = tmp_path / 'gate'
    script = f'x=`cat`; echo begin $x >> {trace}; {until(f"{gate}$x")}; echo end $x >> {trace}'
    twitcher.config('p.twc', f"RegisterWatch('/p', Exec({script!r}), run_mode=PARALLEL)\n"
                             f"RegisterWatch('/p', Exec('echo `cat` >> {seen}'))")
    twitcher.start('--max_running', '3')
    for number in range(10):  # each is seen, before the next one is made
        ensemble.put('/p', number)
        seen.wait(number + 1)
    assert sorted(trace.wait(3)) == ['begin 0', 'begin 1', 'begin 2']
    twitcher.wait_log(r'WARNING: 3 PARALLEL runs are in progress \(--max_running\): further ones wait; watches take turns')
    assert len(twitcher.wait_started('p.twc#1', 3)) == 3
    for number in range(10):
        Path(f'{gate}{number}').touch()
        trace.wait_for_line(f'end {number}')
        if number < 7:
            trace.wait_for_line(f'begin {number + 3}')
            assert len(twitcher.wait_started('p.twc#1', number + 4)) == number + 4
    begun = [line for line in trace.lines() if line.startswith('begin')]
    assert sorted(begun[:3]) + begun[3:] == [f'begin {number}' for number in range(10)]
    twitcher.wait_log('no PARALLEL run waits any more')
    assert len(twitcher.log_lines('further ones wait')) == 1


def test_the_bound_is_for_all_watches_together_and_for_parallel_ones_only(twitcher: Twitcher, ensemble: Ensemble,
                                                                         trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / 'gate'
    script = f'echo begin $TWITCHER_ZNODE >> {trace}; {until(gate)}'
    for name in 'abc':
        twitcher.config(f'{name}.twc', f"RegisterWatch('/{name}', Exec({script!r}), run_mode=PARALLEL)")
    twitcher.config('q.twc', f"RegisterWatch('/q', Exec({script!r}))")
    twitcher.start('--max-running=2')
    for name in 'abc':
        twitcher.wait_log(f'{name}.twc: loaded')
    for name in 'abcq':
        ensemble.put(f'/{name}', '')
        if name != 'c':
            trace.wait_for_line(f'begin /{name}')
    twitcher.wait_log('2 PARALLEL runs are in progress')
    assert trace.lines() == ['begin /a', 'begin /b', 'begin /q']
    gate.touch()
    assert trace.wait(4)[3] == 'begin /c'


def test_reattached_parallel_runs_count_against_the_limit(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    go = twitcher.directory / 'go'
    twitcher.config('p.twc', f"""
        RegisterWatch('/p', Exec('echo `cat` >> {trace}; {until(go)}'), run_mode=PARALLEL)""")
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
