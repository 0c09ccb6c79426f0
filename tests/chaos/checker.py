"""The checker: from the history of a daemon under faults to the guarantees of
DESIGN.md, section 2, that it has broken.

Pure functions: a History goes in, sentences come out. It believes the actions' own
traces of when they ran, and the writer's notes of what it wrote; of the daemon's log
only what actions have printed. Times are in seconds since the boot.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any, DefaultDict, Dict, Iterator, List, Optional, Set

from tests.chaos.causes import check_causes, check_locks, check_overlaps, may_be_lost
from tests.chaos.history import Fact, History, Run

AT_ONCE = 0.1
"""Seconds: of PARALLEL runs that start so close to each other, either may be the first
to say so."""
READ_AGAIN = 12.0
"""Seconds within which a daemon has read again what a server has answered with an
error."""


def check(history: History) -> List[str]:
    """Each violation in a sentence; none where every guarantee has held."""
    return [*_unseen(history), *check_overlaps(history), *check_locks(history), *check_causes(history), *_impossible(history),
            *_interrupted(history), *check_output(history),
            *(f'daemon: {fact["what"]}' for fact in history.facts('trouble'))]


def _unseen(history: History) -> Iterator[str]:
    for checkpoint in history.facts('checkpoint'):
        runs = [run for run in history.runs if run.begin < checkpoint['place']]
        yield from check_final(replace(history, runs=runs), checkpoint).values()


def check_final(history: History, checkpoint: Fact) -> Dict[str, str]:
    """G1 and G4, the violation for each watch: its last run has seen the final
    contents, which the checkpoint has, and is one of the final edition of its action.

    DISCARD may have forgotten them unless they were written while nothing ran (`idle`).
    With run_on_load=False what was written before the daemon had read the znode for the
    first time is the user's to miss, and an edit is no cause to run.
    """
    ready = _ready(history, checkpoint)
    violations: Dict[str, str] = {}
    for watch, runs in history.watches():
        name, editions = watch['name'], checkpoint.get('editions')
        if editions is not None and name not in editions:
            continue  # it was taken out of its file
        last = max((run.started for run in runs), default=0.0)
        latest = [run for run in runs if run.started > last - AT_ONCE] if watch['mode'] == 'PARALLEL' else runs[-1:]
        if editions and runs and (watch['run_on_load'] or checkpoint['idle']) \
                and all(run.edition != editions[name] for run in latest):
            violations[name] = f'G4 {name}: the last run is not of edition {editions[name]}: {_last(runs)}'
        if watch.get('retries') and runs and runs[-1].code and not may_be_lost(history, runs[-1]):
            violations[name] = f'retry {name}: the last run has failed, and was not retried: {_last(runs)}'
        final = checkpoint['contents'][watch['znode']]
        if not _may_miss(history, watch, checkpoint, ready) and all(run.contents != final for run in latest):
            violations[name] = f'G1 {name}: the last run has not seen the final contents {final}: {_last(runs)}'
    return violations


def _last(runs: List[Run]) -> str:
    return str(runs[-1]) if runs else 'there is none'


def _may_miss(history: History, watch: Fact, checkpoint: Fact, ready: Optional[float]) -> bool:
    if watch['mode'] == 'DISCARD' and not checkpoint['idle']:
        return True
    if watch['run_on_load']:
        return False
    final = checkpoint['contents'][watch['znode']]
    written = [fact['at'] for fact in history.facts('writing')
               if fact['watch'] == watch['znode'] and fact['contents'] == final]
    return ready is None or not written or written[-1] < ready


def _ready(history: History, checkpoint: Fact) -> Optional[float]:
    """When the daemon had certainly read everything: it reads the znode of the
    sentinel, which runs on load, last."""
    starts = [fact['at'] for fact in history.facts('start') if fact['at'] < checkpoint['at']]
    sentinels = {fact['name'] for fact in history.facts('watch') if fact['sentinel']}
    ready = next((run.started for run in history.runs
                  if run.watch in sentinels and starts and run.started > starts[-1]), None)
    if ready is not None:
        begun = [fact['at'] for fact in history.facts('fault') if fact['fault'] == 'error answers']
        ended = [fact['at'] for fact in history.facts('healed') if fact['fault'] == 'error answers']
        for begin, end in zip(begun, [*ended, float('inf')]):
            if begin < ready and end > starts[-1]:
                ready = max(ready, end + READ_AGAIN)
    return ready


def _impossible(history: History) -> Iterator[str]:
    """What a run has seen was written, and in the transaction that it was told of."""
    for watch, runs in history.watches():
        if watch['children']:
            continue
        facts = [fact for fact in history.journal if fact.get('watch') == watch['znode']]
        written = {fact['contents'] for fact in facts if fact['kind'] == 'writing'}
        by_zxid = {fact['zxid']: fact['contents'] for fact in facts if fact['kind'] == 'written' and fact['zxid']}
        for run in runs:
            if run.contents not in written or by_zxid.get(run.zxid, run.contents) != run.contents:
                yield f'contents {watch["name"]}: {run} has seen what was not written'


def _interrupted(history: History) -> Iterator[str]:
    """G6: nothing but its timeout, or an update in RESTART mode, ends a run. (One that
    reads its own pipe may go on for ever.)"""
    for watch, runs in history.watches():
        for run in runs:
            if run.end is None and not (watch['timeout'] or watch['takes_back']):
                yield f'G6 {watch["name"]}: {run} was interrupted'


def check_output(history: History) -> List[str]:
    """G6: every line is in the log once, and says whose it is."""
    logged: DefaultDict[str, Dict[str, int]] = defaultdict(lambda: defaultdict(int))
    tags: DefaultDict[str, Set[str]] = defaultdict(set)
    for (description, pid, token, number), times in history.logged.items():
        logged[token][number] += times
        tags[token].add(f'{description}[{pid}]')
    takes_back = {watch['name'] for watch in history.facts('watch') if watch['takes_back']}
    violations = []
    for run in history.runs:
        here: Any = logged.get(run.token, {})
        missing = [str(number) for number in range(1, run.printed + 1) if str(number) not in here]
        if missing and run.watch not in takes_back:
            violations.append(f'G6 {run.watch}: lines {", ".join(missing)} of {run} are not in the log')
        doubled = [number for number, times in here.items() if times > 1]
        if doubled:
            violations.append(f'G6 {run.watch}: lines {", ".join(doubled)} of {run} are in the log more than once')
        if tags[run.token] - {f'{run.watch}[{run.pid}]'}:
            violations.append(f'G6 {run.watch}: lines of {run} are in the log as {", ".join(sorted(tags[run.token]))}')
    return violations
