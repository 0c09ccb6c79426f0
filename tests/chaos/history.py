"""The history of a daemon under faults, as the checker finds it: what runs have told of
themselves, the harness's journal, and what of the runs' output is in the log."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, DefaultDict, Dict, Iterator, List, Optional, Tuple

Fact = Dict[str, Any]
Printed = Tuple[str, str, str, str]
"""A numbered line in the log: the description and the pid before it, the run's token,
and its number."""

TICKS = 100
"""The clock ticks per second in which /proc/PID/stat has a start time: proc(5)."""
_LOGGED = re.compile(r'twitcher\[\d+\](?: [A-Z]+)?: (\S+)\[(\S+?)\]: line (\S+) (\d+)$', re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What a run has told of itself. `begin` and `end` are places in the order of all
    that runs have told.

    `started` is the start time of its process, rounded down to a tick; `alive` the pid
    of the watch's run before it, if that was there still; `printed` the numbered lines
    that it has certainly printed; `end` is None for a run that was killed; `edition`
    says which edit of its watch's action it is. `ended` is the time of the end, and
    `code` the exit code.
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
    edition: int = 0
    attempt: int = 1
    ended: Optional[float] = None
    code: int = 0

    @property
    def token(self) -> str:
        """Its name in the lines that it prints."""
        return f'{self.pid}.{round(self.started * TICKS)}'

    def __str__(self) -> str:
        return f'pid {self.pid} ({self.event}, zxid {self.zxid:#x}, contents {self.contents}, started at {self.started:.2f})'


@dataclass(frozen=True)
class History:
    """All that happened: the runs in the order of their begin, the journal, and how
    often each line is in the log."""

    runs: List[Run] = field(default_factory=list)
    journal: List[Fact] = field(default_factory=list)
    logged: Counter[Printed] = field(default_factory=Counter)

    def facts(self, kind: str) -> List[Fact]:
        """The facts of one kind, in order."""
        return self._by_kind.get(kind, [])

    @cached_property
    def _by_kind(self) -> Dict[str, List[Fact]]:
        found: DefaultDict[str, List[Fact]] = defaultdict(list)
        for fact in self.journal:
            found[fact['kind']].append(fact)
        return found

    def watches(self) -> Iterator[Tuple[Fact, List[Run]]]:
        """Each watch and its runs."""
        runs: DefaultDict[str, List[Run]] = defaultdict(list)
        for run in self.runs:
            runs[run.watch].append(run)
        for watch in self.facts('watch'):
            yield watch, runs[watch['name']]

    def instance(self, run: Run) -> int:
        """Which start of the daemon, counted from 0, the run belongs to."""
        return len([fact for fact in self.facts('start') if fact['at'] <= run.started]) - 1


def read_runs(path: Path) -> List[Run]:
    """The runs that have traced themselves into the file."""
    runs: Dict[Tuple[str, str, str], Run] = {}
    text = path.read_text() if path.exists() else ''
    for place, line in enumerate(text[:text.rfind('\n') + 1].splitlines()):
        what, now, watch, pid, ticks, *rest = line.split(' ')
        key = (watch, pid, ticks)
        if what == 'B':
            event, _, zxid, contents, alive, edition, attempt = rest
            runs[key] = Run(watch, int(pid), int(ticks) / TICKS, place, event, int(zxid), contents, alive,
                            edition=int(edition), attempt=int(attempt))
        elif what == 'P':
            runs[key] = replace(runs[key], printed=int(rest[0]))
        else:
            runs[key] = replace(runs[key], printed=int(rest[0]), end=place, ended=float(now), code=int(rest[1]))
    return list(runs.values())


def count_lines(log: str) -> Counter[Printed]:
    """How often each numbered line is in the text."""
    return Counter(_LOGGED.findall(log))


class Reader:
    """Reads the history that the harness leaves in the directory, again and again; of
    the log, which is long, what is new."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._logged: Counter[Printed] = Counter()
        # A daemon that finds no syslog when it starts logs to stderr.
        self._logs = {directory / 'log': 0, directory / 'stdio': 0}

    def read(self) -> History:
        """All of it so far."""
        for path, seen in self._logs.items():
            if path.exists():
                with path.open('rb') as file:
                    file.seek(seen)
                    text = file.read()
                text = text[:text.rfind(b'\n') + 1]
                self._logs[path] += len(text)
                self._logged.update(count_lines(text.decode('utf-8', 'surrogateescape')))
        journal = [json.loads(line) for line in (self._directory / 'journal').read_text().splitlines()]
        return History(read_runs(self._directory / 'runs'), journal, self._logged)
