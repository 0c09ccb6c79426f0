"""The checker: from the history of a daemon under faults to the guarantees of DESIGN.md, section 2, that it has broken.

Pure functions: a History goes in, sentences come out. It believes the actions' own traces of when they ran, and the writer's
notes of what it wrote; of the daemon's log only what actions have printed. Times are in seconds since the boot.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, DefaultDict, Dict, Iterator, List, Optional, Set, Tuple

from twitcher.database import RETRY

Fact = Dict[str, Any]

TICKS = 100
"""The clock ticks per second in which /proc/PID/stat has a start time: proc(5)."""
AT_ONCE = 0.1
"""Seconds: of PARALLEL runs that start so close to each other, either may be the first to say so."""
NOTED_AFTER = RETRY + 1
"""Seconds until a daemon has certainly noted what it could not note on a full disk."""
_LOGGED = re.compile(r'twitcher\[\d+\](?: [A-Z]+)?: (\S+)\[(\S+?)\]: line (\S+) (\d+)$', re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What a run has told of itself. `begin` and `end` are places in the order of all that runs have told.

    `started` is the start time of its process, rounded down to a tick; `alive` the pid of the watch's run before it, if that
    was there still; `printed` the numbered lines that it has certainly printed; `end` is None for a run that was killed.
    """

    watch: str
    pid: int
    started: float
    begin: int
    event: str
    zxid: int
    contents: str
    alive: str = '-'
    printed: int = 0
    end: Optional[int] = None

    @property
    def token(self) -> str:
        """Its name in the lines that it prints."""
        return f'{self.pid}.{round(self.started * TICKS)}'

    def __str__(self) -> str:
        return f'pid {self.pid} ({self.event}, zxid {self.zxid:#x}, contents {self.contents}, started at {self.started:.2f})'


@dataclass(frozen=True)
class History:
    """All that happened: the runs in the order of their begin, the harness's journal, and the log's text."""

    runs: List[Run] = field(default_factory=list)
    journal: List[Fact] = field(default_factory=list)
    log: str = ''

    def facts(self, kind: str) -> List[Fact]:
        """The facts of one kind, in order."""
        return [fact for fact in self.journal if fact['kind'] == kind]

    def watches(self) -> Iterator[Tuple[Fact, List[Run]]]:
        """Each watch and its runs."""
        runs: DefaultDict[str, List[Run]] = defaultdict(list)
        for run in self.runs:
            runs[run.watch].append(run)
        for watch in self.facts('watch'):
            yield watch, runs[watch['name']]


def read_runs(path: Path) -> List[Run]:
    """The runs that have traced themselves into the file."""
    runs: Dict[Tuple[str, str, str], Run] = {}
    text = path.read_text() if path.exists() else ''
    for place, line in enumerate(text[:text.rfind('\n') + 1].splitlines()):
        what, _, watch, pid, ticks, *rest = line.split(' ')
        key = (watch, pid, ticks)
        if what == 'B':
            event, _, zxid, contents, alive = rest
            runs[key] = Run(watch, int(pid), int(ticks) / TICKS, place, event, int(zxid), contents, alive)
        elif what == 'P':
            runs[key] = replace(runs[key], printed=int(rest[0]))
        else:
            runs[key] = replace(runs[key], printed=int(rest[0]), end=place)
    return list(runs.values())


def read_history(directory: Path) -> History:
    """The history that the harness has left in the directory."""
    # A daemon that finds no syslog when it starts logs to stderr.
    logs = [path.read_text(errors='surrogateescape') for path in (directory / 'log', directory / 'stdio') if path.exists()]
    return History(read_runs(directory / 'runs'),
                   [json.loads(line) for line in (directory / 'journal').read_text().splitlines()], ''.join(logs))


def check(history: History) -> List[str]:
    """Each violation in a sentence; none where every guarantee has held."""
    return [*_unseen(history), *_overlaps(history), *_causeless(history), *_impossible(history), *_interrupted(history),
            *check_output(history), *(f'daemon: {fact["what"]}' for fact in history.facts('trouble'))]


def _unseen(history: History) -> Iterator[str]:
    for checkpoint in history.facts('checkpoint'):
        runs = [run for run in history.runs if run.begin < checkpoint['place']]
        yield from check_final(replace(history, runs=runs), checkpoint)


def check_final(history: History, checkpoint: Fact) -> Iterator[str]:
    """G1: the last run of each watch has seen the final contents, which the checkpoint has.

    DISCARD may have forgotten them unless they were written while nothing ran (`idle`). With run_on_load=False what was
    written before the daemon had read the znode for the first time is the user's to miss.
    """
    ready = _ready(history, checkpoint)
    for watch, runs in history.watches():
        name = watch['name']
        final = checkpoint['contents'][name]
        written = [fact['at'] for fact in history.facts('writing') if fact['watch'] == name and fact['contents'] == final]
        may_miss = not watch['run_on_load'] and (ready is None or not written or written[-1] < ready)
        if may_miss or watch['mode'] == 'DISCARD' and not checkpoint['idle']:
            continue
        last = max((run.started for run in runs), default=0.0)
        latest = [run for run in runs if run.started > last - AT_ONCE] if watch['mode'] == 'PARALLEL' else runs[-1:]
        if all(run.contents != final for run in latest):
            saw = str(runs[-1]) if runs else 'there is none'
            yield f'G1 {name}: the last run has not seen the final contents {final}: {saw}'


def _ready(history: History, checkpoint: Fact) -> Optional[float]:
    """When the daemon had certainly read everything: it reads the znode of the sentinel, which runs on load, last."""
    starts = [fact['at'] for fact in history.facts('start') if fact['at'] < checkpoint['at']]
    sentinels = {fact['name'] for fact in history.facts('watch') if fact['sentinel']}
    return next((run.started for run in history.runs
                 if run.watch in sentinels and starts and run.started > starts[-1]), None)


def _overlaps(history: History) -> Iterator[str]:
    """G2: in QUEUE and DISCARD mode a run begins after the one before has ended, whichever daemon has started it."""
    for watch, runs in history.watches():
        if watch['mode'] == 'PARALLEL':
            continue
        for before, run in zip(runs, runs[1:]):
            is_over = before.end is not None and before.end < run.begin or watch['timeout'] and run.alive == '-'
            if (not is_over or run.alive != '-') and not _may_be_unknown(history, before, run):
                yield f'G2 {watch["name"]}: {run} began before the end of {before}'


def _may_be_unknown(history: History, before: Run, run: Run) -> bool:
    """Whether the state could not tell the daemon of one run about the other: its disk was full when it died."""
    instance = _instance(history, before)
    return instance != _instance(history, run) and any(before.started <= until for until in _unwritten(history, instance))


def _unwritten(history: History, instance: int) -> List[float]:
    """Until when what a daemon had to note may have been lost, because the disk was full when it died, or had just been."""
    start = history.facts('start')[max(instance, 0)]['at']
    died = next((fact['at'] for fact in history.facts('gone') if fact['at'] >= start), float('inf'))
    return [end + NOTED_AFTER for begin, end in _full_times(history) if begin <= died <= end + NOTED_AFTER]


def _full_times(history: History) -> List[Tuple[float, float]]:
    """From when to when the disk of the state was full."""
    return list(zip((fact['at'] for fact in history.facts('full')),
                    [*(fact['at'] for fact in history.facts('emptied')), float('inf')]))


def _instance(history: History, run: Run) -> int:
    """Which start of the daemon, from 0, has begotten the run."""
    return len([fact for fact in history.facts('start') if fact['at'] <= run.started]) - 1


def _causeless(history: History) -> Iterator[str]:
    """G3: a load, or a state of the znode that no run has seen yet; and never an older one after a newer one."""
    for watch, runs in history.watches():
        seen: Set[int] = set()
        loads: DefaultDict[int, int] = defaultdict(int)
        for run in sorted(runs, key=lambda run: (run.started, run.begin)) if watch['mode'] == 'PARALLEL' else runs:
            if run.event == 'load':
                loads[_instance(history, run)] += 1
                if loads[_instance(history, run)] > _occasions(history, watch, run):
                    yield f'G3 {watch["name"]}: {run} is the load of a file that was not loaded again'
            elif run.zxid in seen and not _debt_may_be_stale(history, run):
                yield f'G3 {watch["name"]}: {run} has no cause: an earlier run was for the same state'
            if seen and run.zxid < max(seen) and watch['mode'] != 'PARALLEL':
                yield f'backwards {watch["name"]}: {run} is older than zxid {max(seen):#x}, which was run for before'
            seen.add(run.zxid)


def _occasions(history: History, watch: Fact, run: Run) -> int:
    """How often the daemon of the run had loaded the watch at most when the run started."""
    starts = history.facts('start')
    instance = _instance(history, run)
    since = starts[instance]['at'] if instance >= 0 else 0.0
    edits = [fact for fact in history.facts('edit')
             if watch['name'] in fact['watches'] and since <= fact['at'] < run.started + 1 / TICKS]
    is_loaded_at_start: bool = watch['run_on_load'] and instance >= 0
    return is_loaded_at_start + len(edits)


def _debt_may_be_stale(history: History, run: Run) -> bool:
    """Whether the daemon before could not note that no run is owed any more: its disk was full when it died."""
    instance = _instance(history, run)
    return instance > 0 and bool(_unwritten(history, instance - 1))


def _impossible(history: History) -> Iterator[str]:
    """What a run has seen was written, and in the transaction that it was told of."""
    for watch, runs in history.watches():
        if watch['children']:
            continue
        facts = [fact for fact in history.journal if fact.get('watch') == watch['name']]
        written = {fact['contents'] for fact in facts if fact['kind'] == 'writing'}
        by_zxid = {fact['zxid']: fact['contents'] for fact in facts if fact['kind'] == 'written' and fact['zxid']}
        for run in runs:
            if run.contents not in written or by_zxid.get(run.zxid, run.contents) != run.contents:
                yield f'contents {watch["name"]}: {run} has seen what was not written'


def _interrupted(history: History) -> Iterator[str]:
    """G6: nothing but its timeout ends a run."""
    for watch, runs in history.watches():
        for run in runs:
            if run.end is None and not watch['timeout']:
                yield f'G6 {watch["name"]}: {run} was interrupted'


def check_output(history: History) -> List[str]:
    """G6: every line is in the log once, and says whose it is."""
    logged: Counter[Tuple[str, str]] = Counter()
    tags: DefaultDict[str, Set[str]] = defaultdict(set)
    for description, pid, token, number in _LOGGED.findall(history.log):
        logged[token, number] += 1
        tags[token].add(f'{description}[{pid}]')
    violations = []
    for run in history.runs:
        numbers = [str(number) for number in range(1, run.printed + 1)]
        missing = [number for number in numbers if not logged[run.token, number]]
        if missing:
            violations.append(f'G6 {run.watch}: lines {", ".join(missing)} of {run} are not in the log')
        doubled = [number for (token, number), count in logged.items() if token == run.token and count > 1]
        if doubled:
            violations.append(f'G6 {run.watch}: lines {", ".join(doubled)} of {run} are in the log more than once')
        if tags[run.token] - {f'{run.watch}[{run.pid}]'}:
            violations.append(f'G6 {run.watch}: lines of {run} are in the log as {", ".join(sorted(tags[run.token]))}')
    return violations
