"""The checker of the fault harness, on histories written by hand: a good one, and one for each way to break a guarantee."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from tests.chaos.checker import check
from tests.chaos.history import History, Reader, Run, count_lines

Fact = Dict[str, Any]


def watch(name: str = 'w', mode: str = 'QUEUE', run_on_load: bool = True, timeout: bool = False, children: bool = False,
          sentinel: bool = False, znode: str = '', takes_back: bool = False) -> Fact:
    return {'kind': 'watch', 'at': 0, 'name': name, 'znode': znode or name, 'mode': mode, 'run_on_load': run_on_load,
            'timeout': timeout, 'children': children, 'sentinel': sentinel, 'takes_back': takes_back}


def fact(kind: str, at: float, **about: Any) -> Fact:
    return {'kind': kind, 'at': at, **about}


def write(at: float, contents: str, zxid: Optional[int] = None, name: str = 'w') -> List[Fact]:
    """A write whose zxid is its contents; None for one whose outcome is not known."""
    return [fact('writing', at, watch=name, contents=contents),
            fact('written', at + 0.1, watch=name, contents=contents, zxid=zxid)]


def run(contents: str, started: float, begin: int, event: str = 'changed', end: Optional[int] = -1, zxid: int = 0,
        name: str = 'w', alive: str = '-', printed: int = 1, edition: int = 0) -> Run:
    """A run that ends before anything else happens; its pid is its place."""
    return Run(name, begin, started, begin, event, zxid or int(contents), contents, alive, printed,
               begin + 1 if end == -1 else end, edition)


def log_of(runs: List[Run]) -> str:
    return ''.join(f'now twitcher[1] INFO: {one.watch}[{one.pid}]: line {one.token} {number}\n'
                   for one in runs for number in range(1, one.printed + 1))


def verdict(journal: List[Fact], runs: List[Run], final: str = '', idle: bool = True, log: Optional[str] = None,
            editions: Optional[Dict[str, int]] = None) -> List[str]:
    """The first words of the violations; `final` are the contents in the end, `editions` what the files have then."""
    journal = [watch(), *journal] if not any(one['kind'] == 'watch' for one in journal) else journal
    if final:
        names = [one['name'] for one in journal if one['kind'] == 'watch']
        contents = dict.fromkeys(names, final)
        journal = [*journal, fact('checkpoint', 100, contents=contents, place=1000, idle=idle, editions=editions)]
    logged = count_lines(log_of(runs) if log is None else log)
    return [line.split()[0] for line in check(History(runs, journal, logged))]


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


def test_what_a_server_answered_with_errors_is_read_later() -> None:
    journal = [watch(run_on_load=False), {**watch('s', 'PARALLEL', sentinel=True)}, *write(0, '2', 2, 's'), START]
    sentinel = run('2', 5, 0, 'load', name='s')
    errors = [fact('fault', 3, fault='error answers'), fact('healed', 4, fault='error answers')]
    assert verdict([*journal, *errors, *write(6, '2', 2)], [sentinel], '2') == []
    assert verdict([*journal, *errors, *write(17, '2', 2)], [sentinel], '2') == ['G1']
    late = [fact('fault', 7, fault='error answers'), fact('healed', 8, fault='error answers')]
    assert verdict([*journal, *late, *write(6, '2', 2)], [sentinel], '2') == ['G1']


def test_an_edit_that_has_not_come_into_force() -> None:
    journal = [*write(0, '1', 1), START]
    assert verdict(journal, [run('1', 2, 0, 'load')], '1', editions={'w': 1}) == ['G4']
    assert verdict(journal, [run('1', 2, 0, 'load', edition=1)], '1', editions={'w': 1}) == []
    quiet = [watch(run_on_load=False), *journal]
    assert verdict(quiet, [run('1', 2, 0)], '1', editions={'w': 1}, idle=False) == [], 'an edit does not run it'
    assert verdict(quiet, [run('1', 2, 0)], '1', editions={'w': 1}) == ['G4']


def test_a_watch_that_was_taken_out_need_not_have_seen_the_final_contents() -> None:
    journal = [watch(), watch('above', znode='w'), *write(0, '1', 1), START, *write(3, '2', 2)]
    runs = [run('1', 2, 0, 'load'), run('1', 2, 2, 'load', name='above'), run('2', 3, 4)]
    assert verdict(journal, runs, '2', editions={'w': 0}) == []
    assert verdict(journal, runs, '2', editions={'w': 0, 'above': 0}) == ['G1']


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
    assert verdict([watch(run_on_load=False), *journal, fact('edit', 1.5, watches=['w'])], runs[:1]) == ['G3']


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


def test_a_run_that_reads_its_own_pipe_may_keep_its_lines_and_stay() -> None:
    journal = [watch(takes_back=True), *write(0, '1', 1), START]
    runs = [run('1', 2, 0, 'load', printed=3, end=None)]
    assert verdict(journal, runs, log='') == []
    assert verdict(journal, runs, log=log_of(runs).replace('w[0]', 'v[0]')) == ['G6']


def test_trouble_of_the_daemon_is_told() -> None:
    assert verdict([START, fact('trouble', 2, what='it has ended by itself')], []) == ['daemon:']


@pytest.mark.parametrize(('code', 'attempt', 'event', 'violations'), [
    (0, 1, 'changed', ['G3']), (0, 2, 'changed', ['G3']), (1, 2, 'changed', []), (1, 1, 'changed', ['G3']),
])
def test_a_retry_needs_a_failure(code: int, attempt: int, event: str, violations: List[str]) -> None:
    first = replace(run('1', 2, 1), ended=2.5, code=code)
    second = replace(run('1', 3, 3, event), attempt=attempt, ended=3.5)
    assert verdict([START, *write(1.5, '1', 1)], [first, second]) == violations


@pytest.mark.parametrize(('killed_at', 'code', 'violations'), [(9.0, 0, ['G3']), (2.2, 0, []), (9.0, 1, [])])
def test_a_load_after_changes_only_needs_another_state_or_a_failure(killed_at: float, code: int, violations: List[str]) -> None:
    journal = [{**watch(), 'only_changes': True}, START, *write(1.5, '1', 1), fact('gone', killed_at, how='killed'),
               fact('start', 10)]
    first = replace(run('1', 2, 1, 'load'), ended=2.5, code=code)
    assert verdict(journal, [first, replace(run('1', 11, 3, 'load'), ended=11.5)]) == violations


@pytest.mark.parametrize(('end', 'violations'), [(2, []), (4, ['lock'])])
def test_runs_with_one_lock_do_not_overlap(end: int, violations: List[str]) -> None:
    journal = [{**watch('v'), 'lock': 'x'}, {**watch(), 'lock': 'x'}, START, *write(1.5, '1', 1, 'v'), *write(1.5, '1', 1)]
    runs = [replace(run('1', 2, 1, 'load', name='v'), end=end), run('1', 3, 3, 'load', end=5)]
    assert verdict(journal, runs) == violations


def test_a_failure_that_is_not_retried_is_noticed() -> None:
    journal = [{**watch(), 'retries': True}, START, *write(1.5, '1', 1)]
    assert verdict(journal, [replace(run('1', 2, 1, 'load'), code=1)], final='1') == ['retry']


def test_the_traces_of_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / 'journal').write_text('{"kind": "start", "at": 1}\n')
    (tmp_path / 'runs').write_text('B 2.10 w 7 200 load 3 17 1 - 4 1\nP 2.20 w 7 200 3\nB 2.25 v 8 220 changed 0 18 a,b 7 0 2\n'
                                   'E 2.30 w 7 200 6 1\nB 2.4 w 9 2')
    history = Reader(tmp_path).read()
    first = Run('w', 7, 2.0, 0, 'load', 17, '1', '-', 6, 3, 4, 1, 2.3, 1)
    assert history.runs == [first, replace(first, watch='v', pid=8, started=2.2, begin=2, event='changed', zxid=18,
                                           contents='a,b', alive='7', printed=0, end=None, edition=0, attempt=2,
                                           ended=None, code=0)]
    assert history.facts('start') == [{'kind': 'start', 'at': 1}]


def test_of_a_log_that_grows_every_line_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / 'journal').touch()
    log, reader = tmp_path / 'log', Reader(tmp_path)
    lines = [f'now twitcher[1] INFO: w[7]: line 7.200 {number}\n' for number in (1, 2, 3)]
    log.write_text(lines[0] + lines[1][:20])
    assert list(reader.read().logged) == [('w', '7', '7.200', '1')]
    log.write_text(''.join(lines))
    (tmp_path / 'stdio').write_text(lines[2])
    assert reader.read().logged == {('w', '7', '7.200', '1'): 1, ('w', '7', '7.200', '2'): 1, ('w', '7', '7.200', '3'): 2}
