"""The watches of the fault harness, and the .twc files that have them: written, edited
and renamed while the daemon runs."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

from tests.chaos.journal import Journal

ACTION = Path(__file__).with_name('action.sh')
THIEF = Path(__file__).with_name('thief.py')
CHATTY_BYTES = 600_000
"""In lines of one character: some seconds of work for the output process, and 18 MB of
log."""


class Plan(NamedTuple):
    """A watch: its file, the arguments of its RegisterWatch, and what its action does,
    as a shell command."""

    file: str
    arguments: Dict[str, str]
    command: str

    @property
    def runs_on_load(self) -> bool:
        """Whether a load is a cause for a run."""
        return self.arguments.get('run_on_load') != 'False'

    @property
    def watches_children(self) -> bool:
        """Whether it watches children."""
        return 'watch_type' in self.arguments


WATCHES: Dict[str, Plan] = {
    'q-noload': Plan('a.twc', {'run_on_load': 'False'}, 'sleep 0.4'),
    'p-noload': Plan('a.twc', {'run_mode': 'PARALLEL', 'run_on_load': 'False'}, ':'),
    'q-slow': Plan('a.twc', {}, 'sleep 1.2'),
    'q-quick': Plan('b.twc', {}, ':'),
    'd-slow': Plan('b.twc', {'run_mode': 'DISCARD'}, 'sleep 0.8'),
    'p-slow': Plan('c.twc', {'run_mode': 'PARALLEL'}, 'sleep 1'),
    'children': Plan('c.twc', {'watch_type': 'WATCH_CHILDREN'}, 'sleep 0.3'),
    'killed': Plan('d.twc', {'timeout': '0.6'}, 'sleep 30'),
    'guarded': Plan('g.twc', {}, ':'),
    'chatty': Plan('y.twc', {'run_on_load': 'False'}, f'yes | head -c {CHATTY_BYTES}'),
    'thief': Plan('y.twc', {'run_on_load': 'False'}, f'{sys.executable} -I {THIEF}'),
    'settled': Plan('e.twc', {'settle': '0.3'}, ':'),
    'splayed': Plan('e.twc', {'splay': '1.5'}, 'sleep 0.1'),
    'restarted': Plan('e.twc', {'run_mode': 'RESTART', 'grace': '1'}, 'sleep 2'),
    'changed': Plan('f.twc', {'run_on_load': 'CHANGED'}, 'sleep 0.2'),
    'retried': Plan('f.twc', {'run_on_load': 'False', 'on_failure': 'RETRY(times=FOREVER, delay=0.2, backoff=1)'},
                    'code=$(($$ % 3 == 0))'),
    'locked-a': Plan('f.twc', {'lock': "'chaos'"}, 'sleep 0.3'),
    'locked-b': Plan('h.twc', {'lock': "'chaos'", 'run_mode': 'DISCARD'}, 'sleep 0.2'),
    'sentinel': Plan('z.twc', {'run_mode': 'PARALLEL'}, ':'),
}
"""By name, which is the name of the znode, too. The daemon reads that of the sentinel
last."""
UNASKED = ('chatty', 'thief', 'guarded')
"""Those whose znodes are not written to at random."""
_ABOVE = 'above-'
_TOPPED = ('q-slow', 'q-noload', 'd-slow')
"""Those above which others are put, on the same znode."""
_EDITABLE = (*_TOPPED, 'p-slow', 'q-quick', 'settled', 'splayed', 'restarted')
_MOVABLE = ('a.twc', 'b.twc', 'c.twc')
_BURST = 0.6
"""Seconds: ten times as long as a daemon waits until it looks at what has changed."""
_GAPS = (0, 0.0002, 0.001, 0.003)


class Configs:
    """The files, below `root`. With `is_linked` that is a symlink, and one of the files
    is, too."""

    def __init__(self, root: Path, journal: Journal, is_linked: bool = False) -> None:
        self._journal = journal
        self._directory = root.parent
        self._root = root
        self._names = {plan.file: plan.file for plan in WATCHES.values()}
        self._targets: Dict[str, Path] = {}
        self._editions: Counter[str] = Counter()
        self._timeouts: Counter[str] = Counter()
        self._topped: List[str] = []
        if is_linked:
            self._link()
        else:
            root.mkdir()
        for file in self._names:
            self._replace(file)
        for name, plan in WATCHES.items():
            self._introduce(name, name, plan)
        for name in _TOPPED:
            self._introduce(_ABOVE + name, name, _above(name))

    @property
    def editions(self) -> Dict[str, int]:
        """The watches that the files have now, and the edition of the action of each.
        """
        return {name: self._editions[name] for file in self._names for name, _, _ in self._watches(file)}

    def rewrite(self, strength: float) -> None:
        """Replace a file by one with the same text."""
        self._replace(_pick(sorted(self._names), strength))

    def edit(self, strength: float) -> None:
        """Replace a file by one in which something of a watch is changed."""
        self._replace(self._change(strength))

    def edit_in_place(self, strength: float) -> None:
        """Write into a file in which something of a watch is changed."""
        self._overwrite(self._change(strength), random.Random(strength))

    def overwrite(self, strength: float) -> None:
        """Write the same text into the files, one after the other, again and again."""
        random_numbers = random.Random(strength)
        end = time.monotonic() + _BURST
        while time.monotonic() < end:
            self._overwrite(random_numbers.choice(sorted(self._names)), random_numbers)

    def rename(self, strength: float) -> None:
        """Rename a file."""
        file = _pick(_MOVABLE, strength)
        before = self._names[file]
        self._names[file] = file if before != file else f'{file[0]}-renamed.twc'
        (self._root / before).rename(self._root / self._names[file])

    def top(self, strength: float) -> None:
        """Put another watch on the same znode above a watch, and change that one; or
        remove the other one again."""
        name = _pick(_TOPPED, strength)
        if name in self._topped:
            self._topped.remove(name)
        else:
            self._topped.append(name)
            self._timeouts[name] += 1
            self._journal.note('edit', watches=[name, _ABOVE + name])
        self._replace(WATCHES[name].file)

    def _introduce(self, name: str, znode: str, plan: Plan) -> None:
        self._journal.note('watch', name=name, znode=znode, mode=plan.arguments.get('run_mode', 'QUEUE'),
                           run_on_load=plan.runs_on_load, timeout=name in ('killed', 'restarted'),
                           children=plan.watches_children, sentinel=name == 'sentinel', takes_back=name == 'thief',
                           lock=plan.arguments.get('lock'), retries='on_failure' in plan.arguments,
                           only_changes=plan.arguments.get('run_on_load') == 'CHANGED')

    def _link(self) -> None:
        real, elsewhere = self._directory / 'real', self._directory / 'elsewhere'
        real.mkdir()
        elsewhere.mkdir()
        self._root.symlink_to(real.name)
        self._targets['b.twc'] = elsewhere / 'b.twc'
        (real / 'b.twc').symlink_to('../elsewhere/b.twc')

    def _change(self, strength: float) -> str:
        """Change an argument of a watch, or of its action; the file."""
        name = _pick(_EDITABLE, strength)
        if strength * 100 % 1 < 0.5:
            self._timeouts[name] += 1
        else:
            self._editions[name] += 1
        self._journal.note('edit', watches=[name])
        return WATCHES[name].file

    def _path(self, file: str) -> Path:
        return self._targets.get(file, self._root / self._names[file])

    def _replace(self, file: str) -> None:
        path = self._path(file)
        new = path.with_name('.new')
        new.write_text(self._text(file))
        new.rename(path)

    def _overwrite(self, file: str, random_numbers: random.Random) -> None:
        """Truncate the file and write it, in two steps."""
        text = self._text(file)
        half = random_numbers.choice([0, len(text) // 2])
        with self._path(file).open('w') as stream:
            time.sleep(random_numbers.choice(_GAPS))
            for part in (text[:half], text[half:]):
                stream.write(part)
                stream.flush()
                time.sleep(random_numbers.choice(_GAPS))

    def _watches(self, file: str) -> List[Tuple[str, str, Plan]]:
        """The watches of a file, from the top: the name, the znode and the plan of
        each."""
        found = []
        for name, plan in WATCHES.items():
            if plan.file == file:
                if name in self._topped:
                    found.append((_ABOVE + name, name, _above(name)))
                found.append((name, name, plan))
        return found

    def _text(self, file: str) -> str:
        text = ''
        for name, znode, plan in self._watches(file):
            arguments = plan.arguments
            if self._timeouts[name]:
                arguments = {**arguments, 'timeout': str(100 + self._timeouts[name])}
            command = ['/bin/sh', str(ACTION), str(self._directory), name, str(self._editions[name]), plan.command]
            others = ''.join(f', {argument}={value}' for argument, value in arguments.items())
            text += f'RegisterWatch({"/" + znode!r}, Exec({command!r}), description={name!r}{others})\n'
        return text


def _above(name: str) -> Plan:
    return Plan(WATCHES[name].file, {}, 'sleep 0.2')


def _pick(choices: Sequence[str], strength: float) -> str:
    return choices[int(strength * len(choices))]
