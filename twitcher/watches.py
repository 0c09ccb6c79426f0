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
from typing import DefaultDict, Dict, List, Optional, Tuple

from twitcher.config import load_config
from twitcher.configdir import Changes
from twitcher.errors import ConfigError
from twitcher.keeper import Keeper
from twitcher.slots import Slots
from twitcher.spec import WatchSpec, WatchType
from twitcher.watch import Later, Running, Start, Watch

log = logging.getLogger(__name__)

_Key = Tuple[str, str, WatchType]


@dataclass
class _Entry:
    """A watch, and its spec as the file has it: without a description, if it gave none."""

    watch: Watch
    spec: WatchSpec


class Watches:
    """The files below `root` and their watches. `start` and `later` are handed on to each Watch."""

    def __init__(self, root: str, keeper: Keeper, start: Start, later: Later, slots: Slots) -> None:
        self._root = root
        self._keeper = keeper
        self._start = start
        self._later = later
        self._slots = slots
        self._files: Dict[str, List[_Entry]] = {}
        # Runs in progress whose watch is gone: should it come back, they must not overlap with its runs.
        self._orphans: DefaultDict[_Key, List[Running]] = defaultdict(list)

    def apply(self, changes: Changes) -> None:
        """Put what a look at the disk found into force."""
        for path in changes.gone:
            entries = self._files.pop(path, None)
            if entries is not None:
                log.info('%s: removed, with %s', path, _count(len(entries)))
                for entry in entries:
                    self._retire(path, entry)
        for path, text in changes.texts.items():
            try:
                if isinstance(text, ConfigError):
                    raise text
                self._replace(path, load_config(path, text))
            except ConfigError as error:
                log.error('%s; %s', error, 'its previous version stays in force' if path in self._files else 'not loaded')

    def _replace(self, path: str, specs: List[WatchSpec]) -> None:
        """Make the specs the watches of the file."""
        is_new = path not in self._files
        old: DefaultDict[Tuple[str, WatchType], List[_Entry]] = defaultdict(list)
        for entry in self._files.get(path, ()):
            old[entry.spec.znode, entry.spec.watch_type].append(entry)
        kept = [_take_same(old[spec.znode, spec.watch_type], spec) for spec in specs]
        self._files[path] = entries = []
        for spec, same, described in zip(specs, kept, self._described(path, specs)):
            entry = same or self._enter(path, spec, described, old[spec.znode, spec.watch_type])
            entry.watch.spec, entry.spec = described, spec
            entries.append(entry)
        for rest in old.values():
            for entry in rest:
                self._retire(path, entry)
        untouched = sum(entry is not None for entry in kept)
        is_the_same = not is_new and untouched == len(specs) and not any(old.values())
        log.log(logging.DEBUG if is_the_same else logging.INFO, '%s: loaded, %s%s', path, _count(len(specs)),
                f', {untouched} of them unchanged' if untouched else '')

    def _enter(self, path: str, spec: WatchSpec, described: WatchSpec, predecessors: List[_Entry]) -> _Entry:
        """A watch comes into force; it takes the place of a predecessor on the same znode, if one is left."""
        watch = Watch(described, self._start, self._later, self._slots)
        predecessor: Optional[_Entry] = predecessors.pop(0) if predecessors else None
        if predecessor:
            self._leave(predecessor)
            watch.inherit(predecessor.watch)
        else:
            watch.take_over(self._orphans[path, spec.znode, spec.watch_type])
        self._keeper.subscribe(spec.znode, spec.watch_type, watch.state_is)
        return _Entry(watch, spec)

    def _leave(self, entry: _Entry) -> None:
        self._keeper.unsubscribe(entry.spec.znode, entry.spec.watch_type, entry.watch.state_is)
        entry.watch.close()

    def _retire(self, path: str, entry: _Entry) -> None:
        """A watch goes; its runs go on."""
        self._leave(entry)
        key = path, entry.spec.znode, entry.spec.watch_type
        for run in entry.watch.runs:
            if run not in self._orphans[key]:
                self._orphans[key].append(run)
                run.on_end(partial(self._orphan_ended, key, run))

    def _orphan_ended(self, key: _Key, run: Running) -> None:
        self._orphans[key].remove(run)
        if not self._orphans[key]:
            del self._orphans[key]

    def _described(self, path: str, specs: List[WatchSpec]) -> List[WatchSpec]:
        """The specs with a description each: the file's name, numbered when it has several watches."""
        name = os.path.relpath(path, self._root).encode('utf-8', 'backslashreplace').decode()
        names = [name] if len(specs) == 1 else [f'{name}#{number}' for number in range(1, len(specs) + 1)]
        return [spec if spec.description else replace(spec, description=name) for spec, name in zip(specs, names)]


def _take_same(entries: List[_Entry], spec: WatchSpec) -> Optional[_Entry]:
    """Take the entry that asks for the same as the spec out of the list."""
    for entry in entries:
        if entry.spec.is_same(spec):
            entries.remove(entry)
            return entry
    return None


def _count(number: int) -> str:
    return f'{number} {"watch" if number == 1 else "watches"}'
