"""All watches in force, by the file they come from.

A new version of a file leaves the watches that it repeats untouched, lets those that it changes go on from where they were,
and never lets a new run overlap with one that an earlier version has started.
What a watch is called, here and in the state, is what it does: renaming its file, or editing what stands around it, makes
it no other watch.
"""

from __future__ import annotations

import os
from collections import defaultdict
from itertools import count
from typing import DefaultDict, Dict, List, Optional, Tuple
from zlib import crc32

from twitcher.config.action import outline
from twitcher.config.spec import WatchSpec, WatchType
from twitcher.database import Later
from twitcher.log import get_logger
from twitcher.log_target import DEBUG, INFO
from twitcher.run_record import RunRecord
from twitcher.state import State
from twitcher.watches.unclaimed import Claim, UnclaimedRuns, znode_of
from twitcher.watches.watch import Around, Running, Watch
from twitcher.zookeeper.subscriptions import Keeper

log = get_logger(__name__)

RENAME_WINDOW = 1.0
"""Seconds. What is removed and comes back within it, in whatever file, has only been moved."""

class Watches:
    """The files below `root` and their watches, each of which finds the same `around` it."""

    def __init__(self, root: str, keeper: Keeper, state: State, around: Around, later: Later) -> None:
        self._root = root
        self._keeper = keeper
        self._state = state
        self._around = around
        self._later = later
        self._files: Dict[str, List[Watch]] = {}
        self._by_name: Dict[str, Watch] = {}
        self._numbers: Dict[str, int] = {}
        state.in_force = self._by_name
        # Those that came while another one that does the same was in force: it may turn out to have been moved.
        self._doubles: DefaultDict[str, List[Watch]] = defaultdict(list)
        self._unclaimed = UnclaimedRuns(state.forget, self._is_known)
        for record in state.pending():
            self._unclaimed.add_pending(record.watch, record.path)
        self._is_purged = self._is_sweep_due = False
        self._sweep_later()

    def adopt(self, record: RunRecord, run: Running) -> None:
        """A run of an earlier daemon is in progress, of a watch that may come up."""
        self._unclaimed.add_run(record.watch, record.path, run)

    def close(self) -> None:
        """Start nothing any more. Runs in progress go on, and what waits is the next daemon's."""
        for watches in self._files.values():
            for watch in watches:
                watch.close()

    def remove(self, path: str) -> None:
        """The file is gone."""
        watches = self._files.pop(path, None)
        if watches is not None:
            log.info('%s: removed, with %s', path, _count(len(watches)))
            self._retire(watches)

    def replace(self, path: str, specs: List[WatchSpec], is_same_text: bool) -> None:
        """Make the specs the watches of the file. Where its text is the same, an action is, whatever it compares to."""
        before = self._files.get(path)
        old: DefaultDict[Tuple[str, WatchType], List[Watch]] = defaultdict(list)
        for watch in before or ():
            old[watch.spec.znode, watch.spec.watch_type].append(watch)
        kept = [_take_same(old[spec.znode, spec.watch_type], spec, is_same_text) for spec in specs]
        self._retire([watch for rest in old.values() for watch in rest])
        is_the_same = before is not None and None not in kept and not any(old.values())
        new = [spec for spec, same in zip(specs, kept) if not same]
        keys = [_key(spec) for spec in new]
        claims = self._unclaimed.claim(path, new, keys)
        coming = iter(zip(keys, claims))
        self._numbers.clear()
        self._files[path] = watches = []
        for spec, same, description in zip(specs, kept, self._descriptions(path, specs)):
            watch = same or self._enter(path, spec, description, *next(coming))
            watch.spec, watch.description = spec, description
            watches.append(watch)
        untouched = len(specs) - len(new) + sum(claim.is_same for claim in claims)
        log.log(DEBUG if is_the_same else INFO, '%s: loaded, %s%s', path, _count(len(specs)),
                f', {untouched} of them unchanged' if untouched else '')

    def _enter(self, path: str, spec: WatchSpec, description: str, key: str, claim: Claim) -> Watch:
        """A watch comes into force, and goes on from what it claims."""
        if spec.notifies_shell:
            log.warning('%s: %s: notify_signal meets the shell that runs its string, not what the shell runs; have the shell '
                        'exec the service or trap the signal, or give Exec a list', path, description)
        left = claim.left
        name = claim.name or self._new_name(key)
        watch = Watch(name, path, spec, description, self._around, bool(left and left.has_pending))
        self._by_name[name] = watch
        if not claim.name and _number(name) > 1:
            self._doubles[key].append(watch)
        watch.wait_for(claim.runs)
        if self._unclaimed.has_runs(znode_of(key)) and not self._state.has_run(name):
            self._unclaimed.wait(watch, znode_of(key))
        if left and left.watch:
            watch.continue_from(left.watch, claim.is_same)
        if left and not claim.name:
            if watch.pending:
                self._state.save_pending(name, watch.pending)
            self._state.forget(left.name)
        elif left and left.path != path:
            self._state.moved(name)
        self._keeper.subscribe(spec.znode, spec.watch_type, watch.state_is)
        return watch

    def _is_known(self, path: str, key: str) -> bool:
        """Whether a new watch was idle when an earlier daemon ended, or is being moved to this file from another."""
        twin = self._by_name.get(f'{key} 1')
        return twin is not None and twin.path != path or self._state.has_run(self._new_name(key))

    def _new_name(self, key: str) -> str:
        for number in count(self._numbers.get(key, 1)):
            name = f'{key} {number}'
            if name not in self._by_name and not self._unclaimed.has(name):
                break
        if number > 1:  # a file may hold thousands that do the same
            self._numbers[key] = number + 1
        return name

    def _retire(self, watches: List[Watch]) -> None:
        """Watches go; their runs go on."""
        for watch in watches:
            self._keeper.unsubscribe(watch.spec.znode, watch.spec.watch_type, watch.state_is)
            watch.close()
            del self._by_name[watch.name]
        left = [watch for watch in watches if not self._hand_over(watch)]
        if left:
            self._unclaimed.add(left)
            self._sweep_later()

    def _hand_over(self, watch: Watch) -> bool:
        """Whether the watch has only been moved, to a file that was loaded first: then the other one goes on from it."""
        doubles = self._doubles.get(watch.name.rpartition(' ')[0], [])
        for double in doubles:
            if not double.was_told and self._by_name.get(double.name) is double:
                doubles.remove(double)
                del self._by_name[double.name]
                double.name = watch.name
                self._by_name[double.name] = double
                self._state.moved(double.name)
                double.continue_from(watch, double.spec.is_same(watch.spec))
                return True
        return False

    def _sweep_later(self) -> None:
        if not self._is_sweep_due:
            self._is_sweep_due = True
            self._later(RENAME_WINDOW, self._sweep)

    def _sweep(self) -> None:
        """Forget what is gone for good: not before all files had their chance to be loaded, or to come back."""
        self._is_sweep_due = False
        self._doubles.clear()
        for left in self._unclaimed:
            if left.watch and not left.is_old:
                left.is_old = True
                self._sweep_later()
            elif not left.is_expired and (left.watch or self._is_without(left.path)):
                self._unclaimed.expire(left)
        if not self._is_purged:
            self._is_purged = True
            self._state.purge(lambda name, path: name not in self._by_name and not self._unclaimed.has(name)
                              and self._is_without(path))

    def _is_without(self, path: str) -> bool:
        """Whether the file lacks whatever watch of it has not come up: it is in force, or gone. Else it may yet be read."""
        if path in self._files:
            return True
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

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


def _key(spec: WatchSpec) -> str:
    """What a watch does, to which side of which znode: its name, but for a number among those that do the same."""
    action = crc32(outline(spec.action).encode('utf-8', 'surrogatepass'))
    return f'{spec.watch_type.value} {spec.znode} {action:08x}'


def _number(name: str) -> int:
    return int(name.rpartition(' ')[2])


def _count(number: int) -> str:
    return f'{number} {"watch" if number == 1 else "watches"}'
