"""The checker of the fault harness, on histories written by hand: a good one, and one for each way to break a guarantee."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from tests.chaos_check import History, Run, check, read_history

Fact = Dict[str, Any]


def watch(name: str = 'w', mode: str = 'QUEUE', run_on_load: bool = True, timeout: bool = False, children: bool = False,
          sentinel: bool = False) -> Fact:
    return {'kind': 'watch', 'at': 0, 'name': name, 'mode': mode, 'run_on_load': run_on_load, 'timeout': timeout,
            'children': children, 'sentinel': sentinel}


def fact(kind: str, at: float, **about: Any) -> Fact:
    return {'kind': kind, 'at': at, **about}


def write(at: float, contents: str, zxid: Optional[int] = None, name: str = 'w') -> List[Fact]:
    """A write whose zxid is its contents; None for one whose outcome is not known."""
    return [fact('writing', at, watch=name, contents=contents),
            fact('written', at + 0.1, watch=name, contents=contents, zxid=zxid)]


def run(contents: str, started: float, begin: int, event: str = 'changed', end: Optional[int] = -1, zxid: int = 0,
        name: str = 'w', alive: str = '-', printed: int = 1) -> Run:
    """A run that ends before anything else happens; its pid is its place."""
    return Run(name, begin, started, begin, event, zxid or int(contents), contents, alive, printed,
               begin + 1 if end == -1 else end)


def log_of(runs: List[Run]) -> str:
    return ''.join(f'now twitcher[1] INFO: {one.watch}[{one.pid}]: line {one.token} {number}\n'
                   for one in runs for number in range(1, one.printed + 1))


def verdict(journal: List[Fact], runs: List[Run], final: str = '', idle: bool = True, log: Optional[str] = None) -> List[str]:
    """The first words of the violations; `final` are the contents in the end."""
    journal = [watch(), *journal] if not any(one['kind'] == 'watch' for one in journal) else journal
    if final:
        names = [one['name'] for one in journal if one['kind'] == 'watch']
        journal = [*journal, fact('checkpoint', 100, contents=dict.fromkeys(names, final), place=1000, idle=idle)]
    return [line.split()[0] for line in check(History(runs, journal, log_of(runs) if log is None else log))]


START = fact('start', 1)


def test_a_good_history_has_no_violation() -> None:
    journal = [*write(0, '1', 1), START, *write(3, '2', 2), *write(4, '3', 3), fact('gone', 5), fact('start', 6)]
    assert verdict(journal, [run('1', 2, 0, 'load'), run('3', 4, 2), run('3', 7, 4, 'load')], '3') == []


@pytest.mark.parametrize('mode', ['QUEUE', 'PARALLEL'])
def test_final_contents_that_the_last_run_has_not_seen(mode: str) -> None:
    journal = [watch(mode=mode), *write(0, '1', 1), START, *write(3, '2', 2)]
    assert verdict(journal, [run('1', 2, 0, 'load')], '2') == ['G1']
    assert verdict(journal, [], '2') == ['G1']
    assert verdict(journal, [run('1', 2, 0, 'load'), run('2', 3, 2)], '2') == []


def test_parallel_runs_that_start_at_once_may_tell_so_in_any_order() -> None:
    journal = [watch(mode='PARALLEL'), *write(0, '1', 1), START, *write(3, '2', 2)]
    assert verdict(journal, [run('2', 3.05, 0), run('1', 3.02, 2)], '2') == []
    assert verdict(journal, [run('2', 3, 0), run('1', 4, 2)], '2') == ['G1']


def test_discard_may_forget_what_was_written_during_a_run_only() -> None:
    journal = [watch(mode='DISCARD'), *write(0, '1', 1), START, *write(3, '2', 2)]
    assert verdict(journal, [run('1', 2, 0, 'load')], '2', idle=False) == []
    assert verdict(journal, [run('1', 2, 0, 'load')], '2', idle=True) == ['G1']


def test_without_run_on_load_only_what_was_written_before_the_daemon_had_read_may_be_missed() -> None:
    journal = [watch(run_on_load=False), {**watch('s', 'PARALLEL', sentinel=True)}, *write(0, '2', 2, 's'), START]
    sentinel = run('2', 5, 0, 'load', name='s')
    assert verdict([*journal, *write(4, '2', 2)], [sentinel], '2') == []
    assert verdict([*journal, *write(6, '2', 2)], [sentinel], '2') == ['G1']


@pytest.mark.parametrize('mode', ['QUEUE', 'DISCARD'])
def test_runs_that_overlap(mode: str) -> None:
    journal = [watch(mode=mode), *write(0, '1', 1), START, *write(3, '2', 2)]
    assert verdict(journal, [run('1', 2, 0, 'load', end=2), run('2', 3, 1, end=3)]) == ['G2']
    parallel = [watch(mode='PARALLEL'), *journal[1:]]
    assert verdict(parallel, [run('1', 2, 0, 'load', end=2), run('2', 3, 1, end=3)]) == []


def test_runs_of_two_daemons_that_overlap() -> None:
    journal = [*write(0, '1', 1), START, fact('gone', 20), fact('start', 21)]
    runs = [run('1', 5, 0, 'load', end=2), run('1', 22, 1, 'load', end=3)]
    assert verdict(journal, runs) == ['G2']
    assert verdict([*journal, fact('full', 4), fact('emptied', 19)], runs) == [], 'it could not be noted any more'
    assert verdict([*journal, fact('full', 4)], runs) == []
    assert verdict([*journal, fact('full', 4), fact('emptied', 6)], runs) == ['G2'], 'it could be noted afterwards'
    assert verdict([*journal, fact('full', 21), fact('emptied', 23)], runs) == ['G2'], 'it was noted before'


def test_a_run_that_was_owed_is_made_again_only_if_that_could_not_be_noted() -> None:
    journal = [*write(0, '1', 1), START, *write(3, '2', 2), fact('gone', 20), fact('start', 21)]
    runs = [run('1', 2, 0, 'load', end=1), run('2', 4, 2, end=3), run('2', 22, 4)]
    assert verdict(journal, runs) == ['G3']
    assert verdict([*journal, fact('full', 4), fact('emptied', 6)], runs) == ['G3']
    assert verdict([*journal, fact('full', 4), fact('emptied', 19)], runs) == []


def test_a_run_that_begins_while_the_process_of_the_one_before_is_there() -> None:
    journal = [*write(0, '1', 1), START, *write(3, '2', 2)]
    assert verdict(journal, [run('1', 2, 0, 'load'), run('2', 3, 2, alive='7')]) == ['G2']


def test_a_run_that_its_timeout_has_killed_has_no_end() -> None:
    journal = [watch(timeout=True), *write(0, '1', 1), START, *write(3, '2', 2)]
    assert verdict(journal, [run('1', 2, 0, 'load', end=None), run('2', 3, 2)]) == []
    assert verdict(journal, [run('1', 2, 0, 'load', end=None), run('2', 3, 2, alive='7')]) == ['G2']


def test_a_run_that_was_interrupted() -> None:
    assert verdict([*write(0, '1', 1), START], [run('1', 2, 0, 'load', end=None)]) == ['G6']


def test_two_runs_for_one_state() -> None:
    journal = [*write(0, '1', 1), START, *write(3, '2', 2)]
    assert verdict(journal, [run('2', 3, 0), run('2', 4, 2)]) == ['G3']
    assert verdict(journal, [run('2', 3, 0, 'load'), run('2', 4, 2)]) == ['G3']
    assert verdict([watch(mode='PARALLEL'), *journal], [run('2', 3, 0), run('2', 4, 2)]) == ['G3']


def test_a_load_that_was_none() -> None:
    journal = [*write(0, '1', 1), START]
    runs = [run('1', 2, 0, 'load'), run('1', 4, 2, 'load')]
    assert verdict(journal, runs) == ['G3']
    assert verdict([*journal, fact('edit', 3, watches=['other'])], runs) == ['G3']
    assert verdict([*journal, fact('edit', 5, watches=['w'])], runs) == ['G3'], 'the edit came later'
    assert verdict([*journal, fact('edit', 3, watches=['w'])], runs) == []
    assert verdict([*journal, fact('edit', 4.009, watches=['w'])], runs) == [], 'the run may have started in the same tick'
    assert verdict([*journal, fact('edit', 4.011, watches=['w'])], runs) == ['G3']
    assert verdict([*journal, fact('start', 3)], runs) == []
    assert verdict([watch(run_on_load=False), *journal], runs[:1]) == ['G3']


def test_an_older_state_after_a_newer_one() -> None:
    journal = [*write(0, '1', 1), *write(0, '2', 2), START, fact('start', 3)]
    assert verdict(journal, [run('2', 2, 0, 'load'), run('1', 4, 2, 'load')]) == ['backwards']
    parallel = [watch(mode='PARALLEL'), *journal]
    assert verdict(parallel, [run('2', 2, 0, 'load'), run('1', 4, 2, 'load')]) == []


def test_contents_that_were_never_written_or_in_another_transaction() -> None:
    assert verdict([*write(0, '1', 1), START], [run('5', 2, 0, 'load')]) == ['contents']
    assert verdict([*write(0, '1', 1), *write(0, '2', 2), START], [run('1', 2, 0, 'load', zxid=2)]) == ['contents']
    assert verdict([*write(0, '1'), START], [run('1', 2, 0, 'load', zxid=9)]) == [], 'its outcome is not known'


def test_output_that_is_lost_doubled_or_nobodys() -> None:
    journal = [*write(0, '1', 1), START]
    runs = [run('1', 2, 0, 'load', printed=3)]
    log = log_of(runs)
    assert verdict(journal, runs, log=log.partition('\n')[2]) == ['G6']
    assert verdict(journal, runs, log=log + log.splitlines()[0] + '\n') == ['G6']
    assert verdict(journal, runs, log=log.replace('w[0]', 'w[?]')) == ['G6']
    assert verdict(journal, runs, log=log.replace('w[0]', 'v[0]')) == ['G6']
    assert verdict(journal, runs, log=log.replace('now twitcher[1] INFO:', 'twitcher[1]:')) == [], 'as syslog has it'


def test_trouble_of_the_daemon_is_told() -> None:
    assert verdict([START, fact('trouble', 2, what='it has ended by itself')], []) == ['daemon:']


def test_the_traces_of_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / 'journal').write_text('{"kind": "start", "at": 1}\n')
    (tmp_path / 'runs').write_text('B 2.10 w 7 200 load 3 17 1 -\nP 2.20 w 7 200 3\nB 2.25 v 8 220 changed 0 18 a,b 7\n'
                                   'E 2.30 w 7 200 6\nB 2.4 w 9 2')
    history = read_history(tmp_path)
    first = Run('w', 7, 2.0, 0, 'load', 17, '1', '-', 6, 3)
    assert history.runs == [first, replace(first, watch='v', pid=8, started=2.2, begin=2, event='changed', zxid=18,
                                           contents='a,b', alive='7', printed=0, end=None)]
    assert history.facts('start') == [{'kind': 'start', 'at': 1}]
