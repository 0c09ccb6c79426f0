"""All watches in force, by the file they come from; the place where a file takes effect, whole or not at all.

A new version of a file leaves the watches that it repeats untouched, lets those that it changes go on from where they were,
and never lets a new run overlap with one that an earlier version has started. A file that does not load changes nothing.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from functools import partial
from itertools import count
from typing import DefaultDict, Dict, List, Optional, Set, Tuple

from twitcher.config import load_config
from twitcher.configdir import Changes
from twitcher.errors import ConfigError, SpawnError, StopError
from twitcher.keeper import Keeper
from twitcher.spec import WatchSpec, WatchType
from twitcher.state import State
from twitcher.watch import Around, Running, Watch

log = logging.getLogger(__name__)

class Watches:
    """The files below `root` and their watches, each of which finds the same `around` it."""

    def __init__(self, root: str, keeper: Keeper, state: State, around: Around) -> None:
        self._root = root
        self._keeper = keeper
        self._state = state
        self._around = around
        self._files: Dict[str, List[Watch]] = {}
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
        for watches in self._files.values():
            for watch in watches:
                watch.close()

    def apply(self, changes: Changes) -> None:
        """Put what a look at the disk found into force."""
        for path in changes.gone:
            watches = self._files.pop(path, None)
            self._texts.pop(path, None)
            if watches is not None:
                log.info('%s: removed, with %s', path, _count(len(watches)))
                for watch in watches:
                    self._retire(watch)
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
        before = self._files.get(path)
        old: DefaultDict[Tuple[str, WatchType], List[Watch]] = defaultdict(list)
        for watch in before or ():
            old[watch.spec.znode, watch.spec.watch_type].append(watch)
        kept = [_take_same(old[spec.znode, spec.watch_type], spec, is_same_text) for spec in specs]
        taken = {watch.name for watch in before or ()}
        self._files[path] = watches = []
        for spec, same, description in zip(specs, kept, self._descriptions(path, specs)):
            watch = same or self._enter(path, spec, description, old[spec.znode, spec.watch_type], taken)
            watch.spec, watch.description = spec, description
            watches.append(watch)
        self._foster(watches, [same is not None for same in kept])
        for rest in old.values():
            for watch in rest:
                self._retire(watch)
        untouched = sum(same is not None for same in kept)
        is_the_same = before is not None and untouched == len(specs) and not any(old.values())
        log.log(logging.DEBUG if is_the_same else logging.INFO, '%s: loaded, %s%s', path, _count(len(specs)),
                f', {untouched} of them unchanged' if untouched else '')

    def _enter(self, path: str, spec: WatchSpec, description: str, predecessors: List[Watch], taken: Set[str]) -> Watch:
        """A watch comes into force; it takes the place of a predecessor on the same znode, if one is left."""
        predecessor: Optional[Watch] = predecessors.pop(0) if predecessors else None
        name = predecessor.name if predecessor else _new_name(path, spec, taken)
        taken.add(name)
        watch = Watch(name, spec, description, self._around, self._state.owes_run(name))
        if predecessor:
            self._leave(predecessor)
            watch.inherit(predecessor)
        self._keeper.subscribe(spec.znode, spec.watch_type, watch.state_is)
        return watch

    def _leave(self, watch: Watch) -> None:
        self._keeper.unsubscribe(watch.spec.znode, watch.spec.watch_type, watch.state_is)
        watch.close()

    def _retire(self, watch: Watch) -> None:
        """A watch goes; its runs go on."""
        self._leave(watch)
        self._state.forget(watch.name)
        for run in watch.runs:
            self.adopt(watch.name, run)

    def _orphan_ended(self, orphan: Tuple[str, Running], _: Optional[SpawnError]) -> None:
        family = _family(orphan[0])
        self._orphans[family].remove(orphan)
        if not self._orphans[family]:
            del self._orphans[family]

    def _foster(self, watches: List[Watch], is_kept: List[bool]) -> None:
        """New watches wait for the orphans of their name; and all of a family for those whose name has not come up again."""
        names = {watch.name for watch in watches}
        for watch, kept in zip(watches, is_kept):
            orphans = () if kept else self._orphans.get(_family(watch.name), ())
            watch.take_over([run for name, run in orphans if run not in watch.runs
                             and (name == watch.name or name not in names)])

    def _descriptions(self, path: str, specs: List[WatchSpec]) -> List[str]:
        """What the log calls the watches: what the file says, or else its name, numbered when it has several."""
        name = path[len(self._root):].lstrip('/').encode('utf-8', 'backslashreplace').decode()
        return [spec.description or (name if len(specs) == 1 else f'{name}#{number}') for number, spec in enumerate(specs, 1)]


def _take_same(watches: List[Watch], spec: WatchSpec, whatever_the_action: bool) -> Optional[Watch]:
    """Take the watch that asks for the same as the spec out of the list."""
    for watch in watches:
        if watch.spec.is_same(spec, whatever_the_action):
            watches.remove(watch)
            return watch
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
