"""All watches in force, by their files.

A new version of a file does not touch the watches that it repeats. Those that it
changes continue where they were, and no new run overlaps with a run of an earlier
version. The name of a watch, here and in the state, says what the watch does, so it
stays the same watch when its file is renamed or edited elsewhere.
"""

from __future__ import annotations

import os
from collections import defaultdict
from itertools import count
from typing import Callable, DefaultDict, Dict, List, Mapping, Optional, Protocol, Sequence, Tuple
from zlib import crc32

from twitcher.config.action import outline
from twitcher.config.spec import WatchSpec
from twitcher.log import get_logger
from twitcher.log_target import DEBUG, INFO
from twitcher.run_record import LastRun, RunRecord
from twitcher.watches.context import Running, WatchContext
from twitcher.watches.policies import Beginning, Policies
from twitcher.watches.unclaimed import Claim, UnclaimedRuns, znode_of
from twitcher.watches.watch import Watch
from twitcher.znode import UNKNOWN, Revision, WatchType, ZnodeState

log = get_logger(__name__)

RENAME_WINDOW = 1.0
"""Seconds. A watch that is removed and comes back within them counts as moved."""


class Subscriptions(Protocol):
    """Delivers the states of znodes to watches."""

    def subscribe(self, path: str, watch_type: WatchType, listener: Callable[[ZnodeState], None]) -> None:
        """Call the listener with the znode's state, soon and after each change."""

    def unsubscribe(self, path: str, watch_type: WatchType, listener: Callable[[ZnodeState], None]) -> None:
        """Never call the listener again."""


class Store(Protocol):
    """Keeps what the next daemon must know about the watches, by name."""

    def pending(self) -> Sequence[Tuple[str, str]]:
        """The name and the file of each watch that an earlier daemon left pending."""

    def has_run(self, watch: str) -> bool:
        """Whether a run of the watch was ever started."""

    def last_run(self, watch: str) -> Optional[LastRun]:
        """What is known of its last run, and whether it was stopped."""

    def save_stopped(self, watch: str, digest: Optional[int]) -> None:
        """Note that it was stopped with a spec of this digest; None if it was
        resumed."""

    def save_pending(self, watch: str, revision: Optional[Revision]) -> None:
        """Note its latest pending update; None if nothing is pending now."""

    def moved(self, watch: str) -> None:
        """Note the present file of the watch."""

    def rename_runs(self, earlier: str, watch: str) -> None:
        """Note that the runs in progress of `earlier` now belong to `watch`."""

    def forget(self, watch: str) -> None:
        """The watch is gone for good."""

    def purge(self, is_gone: Callable[[str, str], bool]) -> None:
        """Forget each watch for which `is_gone(name, file)` is true."""


class Watches:
    """The files below `root` and their watches, which share `context` and `policies`.

    `call_later(seconds, callback)` calls back.
    """

    def __init__(self, root: str, subscriptions: Subscriptions, store: Store, context: WatchContext,
                 policies: Policies, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._root = root
        self._subscriptions = subscriptions
        self._store = store
        self._context = context
        self._policies = policies
        self._call_later = call_later
        self._files: Dict[str, List[Watch]] = {}
        self._by_name: Dict[str, Watch] = {}
        self._numbers: Dict[str, int] = {}
        # New watches that do the same as another one in force. If that one is removed
        # soon, it was moved to where they are.
        self._twins: DefaultDict[str, List[Watch]] = defaultdict(list)
        self._unclaimed = UnclaimedRuns(store.forget, self._is_known)
        for name, file in store.pending():
            self._unclaimed.add_pending(name, file)
        self._is_purged = self._is_sweep_due = False
        self._sweep_later()

    @property
    def in_force(self) -> Mapping[str, Watch]:
        """The watches in force, by name."""
        return self._by_name

    def add_reattached(self, record: RunRecord, run: Running) -> None:
        """A run of an earlier daemon is in progress. Its watch may come into force."""
        self._unclaimed.add_run(record.watch, record.path, run)
        self._policies.count(record, run)

    def close(self) -> None:
        """Start no more runs. Those in progress go on; pending updates are left to the
        next daemon."""
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
        """Put the specs into force as the watches of the file. If its text is
        unchanged, actions count as unchanged even where they compare unequal."""
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
        """Put a new watch into force, which continues from what it claims."""
        if spec.notifies_shell:
            log.warning('%s: %s: notify_signal reaches the shell that runs the string, not what the shell runs; have the shell '
                        'exec the service or trap the signal, or give Exec a list', path, description)
        unclaimed = claim.unclaimed
        name = claim.name or self._new_name(key)
        beginning = self._beginning(name, spec, claim)
        has_pending = bool(unclaimed and unclaimed.has_pending) or beginning.has_retry
        watch = Watch(name, path, spec, description, self._context, self._policies.gate(spec, beginning.schedule),
                      beginning.schedule, beginning.basis, has_pending)
        self._by_name[name] = watch
        if not claim.name and _number(name) > 1:
            self._twins[key].append(watch)
        watch.take_over(claim.runs)
        if self._unclaimed.has_runs(znode_of(key)) and not self._store.has_run(name):
            self._unclaimed.wait(watch, znode_of(key))
        if unclaimed and unclaimed.watch:
            watch.continue_from(unclaimed.watch, claim.is_same)
        if unclaimed and not claim.name:
            if watch.pending or claim.runs:
                self._store.save_pending(name, watch.pending)
            if claim.runs:
                self._store.rename_runs(unclaimed.name, name)
            self._store.forget(unclaimed.name)
        elif unclaimed and unclaimed.path != path:
            self._store.moved(name)
        watch.open()
        self._subscriptions.subscribe(spec.znode, spec.watch_type, watch.on_state)
        return watch

    def _beginning(self, name: str, spec: WatchSpec, claim: Claim) -> Beginning:
        """What the watch begins with. If it is the same as before, it keeps its
        schedule."""
        unclaimed = claim.unclaimed
        earlier = unclaimed.watch if unclaimed else None
        if earlier and claim.is_same:
            return Beginning(earlier.schedule)
        is_known = spec.has_policies or bool(unclaimed and (unclaimed.has_pending or earlier and earlier.schedule))
        last = self._store.last_run(name) if is_known else None
        beginning = self._policies.beginning(name, spec, last, bool(claim.runs), is_first=not earlier)
        if beginning.is_resumed:
            self._store.save_stopped(name, None)
        if beginning.has_retry:
            self._store.save_pending(name, UNKNOWN)
        return beginning

    def _is_known(self, path: str, key: str) -> bool:
        """Whether a new watch was known to an earlier daemon, or is just moved here."""
        twin = self._by_name.get(f'{key} 1')
        return twin is not None and twin.path != path or self._store.has_run(self._new_name(key))

    def _new_name(self, key: str) -> str:
        for number in count(self._numbers.get(key, 1)):
            name = f'{key} {number}'
            if name not in self._by_name and not self._unclaimed.has(name):
                break
        if number > 1:  # a file may hold thousands that do the same
            self._numbers[key] = number + 1
        return name

    def _retire(self, watches: List[Watch]) -> None:
        """Take these watches out of force. Their runs go on."""
        for watch in watches:
            self._subscriptions.unsubscribe(watch.spec.znode, watch.spec.watch_type, watch.on_state)
            watch.close()
            del self._by_name[watch.name]
        gone = [watch for watch in watches if not self._hand_over(watch)]
        if gone:
            self._unclaimed.add(gone)
            self._sweep_later()

    def _hand_over(self, watch: Watch) -> bool:
        """If the watch was moved to a file that has been loaded before, let its twin
        there continue from it. Returns whether it was moved."""
        twins = self._twins.get(watch.name.rpartition(' ')[0], [])
        for twin in twins:
            if not twin.last_seen and self._by_name.get(twin.name) is twin:
                twins.remove(twin)
                del self._by_name[twin.name]
                twin.name = watch.name
                self._by_name[twin.name] = twin
                self._store.moved(twin.name)
                twin.continue_from(watch, twin.spec.is_same(watch.spec))
                twin.open()
                return True
        return False

    def _sweep_later(self) -> None:
        if not self._is_sweep_due:
            self._is_sweep_due = True
            self._call_later(RENAME_WINDOW, self._sweep)

    def _sweep(self) -> None:
        """Forget watches that are gone for good: they had time to come back."""
        self._is_sweep_due = False
        self._twins.clear()
        for each in self._unclaimed:
            if each.watch and not each.is_old:
                each.is_old = True
                self._sweep_later()
            elif not each.is_expired and (each.watch or self._is_without(each.path)):
                self._unclaimed.expire(each)
        if not self._is_purged:
            self._is_purged = True
            self._store.purge(lambda name, path: name not in self._by_name and not self._unclaimed.has(name)
                              and self._is_without(path))

    def _is_without(self, path: str) -> bool:
        """Whether no further watch of the file can come into force: it has been loaded,
        or is gone. Otherwise it may still be read."""
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
        """The names of the watches in the log: the descriptions that the file gives, or
        its own name, with a number if it has several watches."""
        name = path[len(self._root):].lstrip('/').encode('utf-8', 'backslashreplace').decode()
        return [spec.description or (name if len(specs) == 1 else f'{name}#{number}') for number, spec in enumerate(specs, 1)]


def _take_same(watches: List[Watch], spec: WatchSpec, ignore_action: bool) -> Optional[Watch]:
    """Remove a watch that asks for the same as the spec from the list; return it."""
    for watch in watches:
        if watch.spec.is_same(spec, ignore_action):
            watches.remove(watch)
            return watch
    return None


def _key(spec: WatchSpec) -> str:
    """The name of a watch, without the number that tells it from others that do the
    same: what it does, to which side of which znode."""
    action = crc32(outline(spec.action).encode('utf-8', 'surrogatepass'))
    return f'{spec.watch_type.value} {spec.znode} {action:08x}'


def _number(name: str) -> int:
    return int(name.rpartition(' ')[2])


def _count(number: int) -> str:
    return f'{number} {"watch" if number == 1 else "watches"}'
