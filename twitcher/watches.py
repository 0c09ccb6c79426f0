"""All watches in force, by the file they come from; the place where a file takes effect, whole or not at all.

A new version of a file leaves the watches that it repeats untouched, lets those that it changes go on from where they were,
and never lets a new run overlap with one that an earlier version has started. A file that does not load changes nothing.
"""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Callable, DefaultDict, Dict, List, Optional, Set, Tuple

from twitcher.config import load_config
from twitcher.configdir import Changes
from twitcher.errors import ConfigError, StopError
from twitcher.keeper import Keeper
from twitcher.slots import Slots
from twitcher.spec import WatchSpec, WatchType
from twitcher.state import State
from twitcher.watch import Later, Running, Watch
from twitcher.znode import Update

log = logging.getLogger(__name__)

StartNamed = Callable[[str, WatchSpec, Update], Running]


@dataclass
class _Entry:
    """A watch, its spec as the file has it (without a description, if it gave none), and its name in the state."""

    watch: Watch
    spec: WatchSpec
    name: str


class Watches:
    """The files below `root` and their watches. `start`, with a name before its arguments, and `later` are for each Watch."""

    def __init__(self, root: str, keeper: Keeper, state: State, start: StartNamed, later: Later, slots: Slots) -> None:
        self._root = root
        self._keeper = keeper
        self._state = state
        self._start = start
        self._later = later
        self._slots = slots
        self._files: Dict[str, List[_Entry]] = {}
        self._texts: Dict[str, bytes] = {}
        # Runs in progress whose watch is gone: should it come back, they must not overlap with its runs.
        self._orphans: DefaultDict[str, List[Tuple[str, Running]]] = defaultdict(list)

    def adopt(self, name: str, run: Running) -> None:
        """A run of the watch with this name, which may come up: they must not overlap."""
        orphans, orphan = self._orphans[_family(name)], (name, run)
        if orphan not in orphans:
            orphans.append(orphan)
            run.on_end(partial(self._orphan_ended, orphan))

    def close(self) -> None:
        """Start nothing any more. Runs in progress go on, and what waits is the next daemon's."""
        for entries in self._files.values():
            for entry in entries:
                entry.watch.close()

    def apply(self, changes: Changes) -> None:
        """Put what a look at the disk found into force."""
        for path in changes.gone:
            entries = self._files.pop(path, None)
            self._texts.pop(path, None)
            if entries is not None:
                log.info('%s: removed, with %s', path, _count(len(entries)))
                for entry in entries:
                    self._retire(entry)
        for path, text in changes.texts.items():
            try:
                if isinstance(text, ConfigError):
                    raise text
                self._replace(path, load_config(path, text), is_same_text=self._texts.get(path) == text)
                self._texts[path] = text
            except StopError as error:
                log.warning('%s, and what was to be loaded after it is not', error)
                return
            except ConfigError as error:
                log.error('%s; %s', error, 'its previous version stays in force' if path in self._files else 'not loaded')

    def _replace(self, path: str, specs: List[WatchSpec], is_same_text: bool) -> None:
        """Make the specs the watches of the file. Where its text is the same, an action is, whatever it compares to."""
        is_new = path not in self._files
        old: DefaultDict[Tuple[str, WatchType], List[_Entry]] = defaultdict(list)
        for entry in self._files.get(path, ()):
            old[entry.spec.znode, entry.spec.watch_type].append(entry)
        kept = [_take_same(old[spec.znode, spec.watch_type], spec, is_same_text) for spec in specs]
        taken = {entry.name for entry in self._files.get(path, ())}
        self._files[path] = entries = []
        for spec, same, described in zip(specs, kept, self._described(path, specs)):
            entry = same or self._enter(path, spec, described, old[spec.znode, spec.watch_type], taken)
            entry.watch.spec, entry.spec = described, spec
            entries.append(entry)
        self._foster(entries, [same is not None for same in kept])
        for rest in old.values():
            for entry in rest:
                self._retire(entry)
        untouched = sum(entry is not None for entry in kept)
        is_the_same = not is_new and untouched == len(specs) and not any(old.values())
        log.log(logging.DEBUG if is_the_same else logging.INFO, '%s: loaded, %s%s', path, _count(len(specs)),
                f', {untouched} of them unchanged' if untouched else '')

    def _enter(self, path: str, spec: WatchSpec, described: WatchSpec, predecessors: List[_Entry],
               taken: Set[str]) -> _Entry:
        """A watch comes into force; it takes the place of a predecessor on the same znode, if one is left."""
        predecessor: Optional[_Entry] = predecessors.pop(0) if predecessors else None
        name = predecessor.name if predecessor else _new_name(path, spec, taken)
        taken.add(name)
        watch = Watch(described, partial(self._start, name), self._later, self._slots,
                      partial(self._state.set_waiting, name), self._state.owes_run(name))
        if predecessor:
            self._leave(predecessor)
            watch.inherit(predecessor.watch)
        self._keeper.subscribe(spec.znode, spec.watch_type, watch.state_is)
        return _Entry(watch, spec, name)

    def _leave(self, entry: _Entry) -> None:
        self._keeper.unsubscribe(entry.spec.znode, entry.spec.watch_type, entry.watch.state_is)
        entry.watch.close()

    def _retire(self, entry: _Entry) -> None:
        """A watch goes; its runs go on."""
        self._leave(entry)
        self._state.forget(entry.name)
        for run in entry.watch.runs:
            self.adopt(entry.name, run)

    def _orphan_ended(self, orphan: Tuple[str, Running]) -> None:
        family = _family(orphan[0])
        self._orphans[family].remove(orphan)
        if not self._orphans[family]:
            del self._orphans[family]

    def _foster(self, entries: List[_Entry], is_kept: List[bool]) -> None:
        """New watches wait for the orphans of their name; and all of a family for those whose name has not come up again."""
        names = {entry.name for entry in entries}
        for entry, kept in zip(entries, is_kept):
            if not kept:
                orphans = self._orphans.get(_family(entry.name), [])
                entry.watch.take_over([run for name, run in orphans if run not in entry.watch.runs
                                       and (name == entry.name or name not in names)])

    def _described(self, path: str, specs: List[WatchSpec]) -> List[WatchSpec]:
        """The specs with a description each: the file's name, numbered when it has several watches."""
        name = os.path.relpath(path, self._root).encode('utf-8', 'backslashreplace').decode()
        names = [name] if len(specs) == 1 else [f'{name}#{number}' for number in range(1, len(specs) + 1)]
        return [spec if spec.description else replace(spec, description=name) for spec, name in zip(specs, names)]


def _take_same(entries: List[_Entry], spec: WatchSpec, whatever_the_action: bool) -> Optional[_Entry]:
    """Take the entry that asks for the same as the spec out of the list."""
    for entry in entries:
        if entry.spec.is_same(spec, whatever_the_action):
            entries.remove(entry)
            return entry
    return None


def _new_name(path: str, spec: WatchSpec, taken: Set[str]) -> str:
    """What a watch is called in the state: nothing that an edit of the file's other watches would change."""
    names = (f'{path} {spec.watch_type.value} {spec.znode} {number}' for number in count(1))
    return next(name for name in names if name not in taken)


def _family(name: str) -> str:
    """What the names of all watches of a file on one side of a znode have in common."""
    return name.rpartition(' ')[0]


def _count(number: int) -> str:
    return f'{number} {"watch" if number == 1 else "watches"}'
