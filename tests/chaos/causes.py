"""The checks of when a run may begin: not before the previous one has ended, and not
without a cause."""

from __future__ import annotations

from collections import defaultdict
from typing import DefaultDict, Dict, Iterator, List, Tuple

from tests.chaos.history import TICKS, Fact, History, Run
from twitcher.database import RETRY

NOTICED_AFTER = 2.0
"""Seconds until a daemon among faults has certainly noticed the end of a run."""
NOTED_AFTER = RETRY + 1
"""Seconds until a daemon has certainly noted what it could not note on a full disk."""


def check_overlaps(history: History) -> Iterator[str]:
    """G2: in QUEUE and DISCARD mode a run begins after the one before has ended,
    whichever daemon has started it."""
    for watch, runs in history.watches():
        if watch['mode'] == 'PARALLEL':
            continue
        for before, run in zip(runs, runs[1:]):
            is_over = before.end is not None and before.end < run.begin or watch['timeout'] and run.alive == '-'
            if (not is_over or run.alive != '-') and not _may_be_unknown(history, before, run):
                yield f'G2 {watch["name"]}: {run} began before the end of {before}'


def check_locks(history: History) -> Iterator[str]:
    """Runs of watches with the same lock never overlap, whichever daemon has started
    them."""
    held: DefaultDict[str, List[Run]] = defaultdict(list)
    for watch, runs in history.watches():
        if watch.get('lock'):
            held[watch['lock']] += runs
    for lock, runs in held.items():
        runs.sort(key=lambda run: run.begin)
        for before, run in zip(runs, runs[1:]):
            if (before.end is None or before.end > run.begin) and not _may_be_unknown(history, before, run):
                yield f'lock {lock}: {run} of {run.watch} began before the end of {before} of {before.watch}'


def check_causes(history: History) -> Iterator[str]:
    """G3: a load, a failure that is retried, or a state of the znode that no run has
    seen yet; and never an older one after a newer one."""
    for watch, runs in history.watches():
        seen: Dict[int, Run] = {}
        loads: DefaultDict[int, int] = defaultdict(int)
        for run in sorted(runs, key=lambda run: (run.started, run.begin)) if watch['mode'] == 'PARALLEL' else runs:
            if run.event == 'load':
                loads[history.instance(run)] += 1
                if loads[history.instance(run)] > _occasions(history, watch, run):
                    yield f'G3 {watch["name"]}: {run} is the load of a file that was not loaded again'
                elif watch.get('only_changes') and run.zxid in seen and not _may_have_failed(history, seen[run.zxid]) \
                        and not _pending_may_be_stale(history, run):
                    yield f'G3 {watch["name"]}: {run} is a load for a state that a run had succeeded for'
            elif run.attempt > 1:
                if run.zxid not in seen or not _may_have_failed(history, seen[run.zxid]):
                    yield f'G3 {watch["name"]}: {run} retries what has not failed'
            elif run.zxid in seen and not _pending_may_be_stale(history, run):
                yield f'G3 {watch["name"]}: {run} has no cause: an earlier run was for the same state'
            if seen and run.zxid < max(seen) and watch['mode'] != 'PARALLEL':
                yield f'backwards {watch["name"]}: {run} is older than zxid {max(seen):#x}, which was run for before'
            seen[run.zxid] = run


def _may_have_failed(history: History, run: Run) -> bool:
    """Whether a run has failed, as far as the next daemon could know: its own had died
    when it ended, or did soon after."""
    deaths = [fact['at'] for fact in history.facts('gone') if fact['at'] > run.started]
    return run.code != 0 or run.ended is None or any(death < run.ended + NOTICED_AFTER for death in deaths)


def _occasions(history: History, watch: Fact, run: Run) -> int:
    """How often the daemon of the run had loaded the watch at most when the run
    started."""
    instance = history.instance(run)
    if not watch['run_on_load']:
        return 0
    since = history.facts('start')[instance]['at'] if instance >= 0 else 0.0
    edits = [fact for fact in history.facts('edit')
             if watch['name'] in fact['watches'] and since <= fact['at'] < run.started + 1 / TICKS]
    return (instance >= 0) + len(edits)


def _may_be_unknown(history: History, before: Run, run: Run) -> bool:
    """Whether the state could not tell the daemon of one run about the other: its disk
    was full when it died."""
    return history.instance(before) != history.instance(run) and may_be_lost(history, before)


def may_be_lost(history: History, run: Run) -> bool:
    """Whether the state may know nothing of a run, or of its end: the disk was full when
    its daemon died."""
    return any(run.started <= until for until in _unwritten(history, history.instance(run)))


def _pending_may_be_stale(history: History, run: Run) -> bool:
    """Whether the daemon before could not note that no update was pending any more: its
    disk was full when it died."""
    instance = history.instance(run)
    return instance > 0 and bool(_unwritten(history, instance - 1))


def _unwritten(history: History, instance: int) -> List[float]:
    """Until when what a daemon had to note may have been lost, because the disk was
    full when it died, or had just been."""
    start = history.facts('start')[max(instance, 0)]['at']
    died = next((fact['at'] for fact in history.facts('gone') if fact['at'] >= start), float('inf'))
    return [end + NOTED_AFTER for begin, end in _full_times(history) if begin <= died <= end + NOTED_AFTER]


def _full_times(history: History) -> List[Tuple[float, float]]:
    """From when to when the disk of the state was full."""
    return list(zip((fact['at'] for fact in history.facts('full')),
                    [*(fact['at'] for fact in history.facts('emptied')), float('inf')]))
