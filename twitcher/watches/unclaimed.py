"""Keeps what watches leave when they are no longer in force: runs in progress, a
pending update, and the last state that they saw.

A watch leaves these when its file is edited, removed or renamed, or when its daemon
ends. One rule decides which watch continues from them. A new watch claims what is left
under its own name, from any file: the name says what a watch does, to which side of
which znode. The new watches of a file that find nothing continue, in order, from what
is left of that file on the same znode. A watch that has never run also waits for all
unclaimed runs on its znode, until each is claimed or has ended.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from twitcher.config.spec import WatchSpec
from twitcher.run_record import RunEnd
from twitcher.watches.context import Running
from twitcher.watches.watch import Watch


class Unclaimed:
    """The remains of one watch. `watch` is None if it was an earlier daemon's, or is
    gone for good.

    `key` is its name without the number, which all watches that do the same share.
    `batch` is the number of the edit that removed it.
    """

    def __init__(self, name: str, path: str, watch: Optional[Watch] = None, runs: Sequence[Running] = (),
                 is_expired: bool = False, batch: int = 0) -> None:
        self.name = name
        self.path = path
        self.watch = watch
        self.runs = list(runs)
        self.has_pending = False
        self.is_old = False
        self.is_expired = is_expired
        self.batch = batch
        self.waiting: List[Watch] = []
        self.key, _, number = name.rpartition(' ')
        self.znode = znode_of(self.key)
        self.number = int(number)


class Claim(NamedTuple):
    """The remains that a new watch continues from.

    With a `name` it is the watch that had this name; without one it replaces another
    watch. `is_same`: it asks for the same in every respect.
    """

    name: Optional[str] = None
    unclaimed: Optional[Unclaimed] = None
    is_same: bool = False
    runs: Sequence[Running] = ()


class UnclaimedRuns:
    """Everything that is unclaimed.

    `on_expiry` is called with the name of each watch that is gone for good, and its
    pending update with it. `is_known(path, key)` says whether a new watch of this file
    was known before, so that it is not a new version of another one, even if nothing is
    left under its name.
    """

    def __init__(self, on_expiry: Callable[[str], None], is_known: Callable[[str, str], bool]) -> None:
        self._on_expiry = on_expiry
        self._is_known = is_known
        self._batch = 0
        self._groups: Dict[str, Dict[str, List[Unclaimed]]] = {}  # by znode and side, and by key

    def __iter__(self) -> Iterator[Unclaimed]:
        return iter([each for group in self._groups.values() for those in group.values() for each in those])

    def has(self, name: str) -> bool:
        """Whether anything is left under this name."""
        key = name.rpartition(' ')[0]
        return any(each.name == name for each in self._groups.get(znode_of(key), {}).get(key, ()))

    def has_runs(self, znode: str) -> bool:
        """Whether there is an unclaimed run on this side of the znode."""
        return any(each.runs for each in self._on(znode))

    def add(self, watches: Sequence[Watch]) -> None:
        """These watches of a file are no longer in force; they have been closed."""
        self._batch += 1
        for watch in watches:
            self._add(Unclaimed(watch.name, watch.path, watch, watch.runs, batch=self._batch))

    def add_run(self, name: str, path: str, run: Running) -> None:
        """A run of an earlier daemon is in progress; `path` is the file of its watch,
        if that is known."""
        unclaimed = self._of_earlier_daemon(name, path)
        unclaimed.runs.append(run)
        run.on_end(partial(self._ended, unclaimed, run))

    def add_pending(self, name: str, path: str) -> None:
        """An update is pending that an earlier daemon has received."""
        self._of_earlier_daemon(name, path).has_pending = True

    def expire(self, unclaimed: Unclaimed) -> None:
        """The watch is gone for good. Its runs go on, and new watches wait for them."""
        unclaimed.is_expired, unclaimed.has_pending, unclaimed.watch = True, False, None
        self._on_expiry(unclaimed.name)
        self._drop_if_over(unclaimed)

    def claim(self, path: str, specs: Sequence[WatchSpec], keys: Sequence[str]) -> List[Claim]:
        """Claim the remains that each of these new watches of a file continues from.
        `keys` are their names without the numbers."""
        claims = [Claim()] * len(specs)
        places: Dict[str, List[int]] = {}
        if self._groups:
            for index, key in enumerate(keys):
                places.setdefault(znode_of(key), []).append(index)
        for znode, indices in places.items():
            if znode in self._groups:
                for index in indices:
                    claims[index] = self._claim_own(path, specs[index], keys[index])
                new = [index for index in indices if not claims[index].unclaimed and not self._is_known(path, keys[index])]
                self._claim_in_order(path, znode, new, claims)
        return claims

    def wait(self, watch: Watch, znode: str) -> None:
        """Let a new watch wait for the unclaimed runs on its side of the znode."""
        for each in self._on(znode):
            if each.runs:
                each.waiting.append(watch)
                watch.wait_for(each.runs)

    def _claim_own(self, path: str, spec: WatchSpec, key: str) -> Claim:
        """Claim by name. Of several watches that did the same, prefer one that asked
        for the same in every respect, then one of the same file."""
        own = self._groups.get(znode_of(key), {}).get(key)
        if not own:
            return Claim()
        same = [each for each in own if each.watch and each.watch.spec.is_same(spec)]
        unclaimed = min(same or own, key=lambda each: (each.path != path, each.number))
        self._remove(unclaimed)
        for other in unclaimed.waiting:
            for run in unclaimed.runs[:]:
                other.stop_waiting_for(run)
        return Claim(unclaimed.name, unclaimed, unclaimed in same, unclaimed.runs)

    def _claim_in_order(self, path: str, znode: str, indices: List[int], claims: List[Claim]) -> None:
        """If as many watches were removed as were added, each new one replaces one.
        Otherwise it is uncertain which one replaces which: the runs stay unclaimed, and
        all new watches wait for them."""
        rest = [each for each in self._on(znode) if each.path == path and not each.is_expired]
        is_certain = len(rest) == len(indices)
        for index, unclaimed in zip(indices, rest):
            self._remove(unclaimed)
            claims[index] = Claim(None, unclaimed, False, unclaimed.runs if is_certain else ())
            if unclaimed.runs and not is_certain:
                self._add(Unclaimed(unclaimed.name, path, None, unclaimed.runs, is_expired=True))

    def _of_earlier_daemon(self, name: str, path: str) -> Unclaimed:
        new = Unclaimed(name, path)
        known = [each for each in self._groups.get(new.znode, {}).get(new.key, ()) if each.name == name]
        return known[0] if known else self._add(new)

    def _add(self, unclaimed: Unclaimed) -> Unclaimed:
        self._groups.setdefault(unclaimed.znode, {}).setdefault(unclaimed.key, []).append(unclaimed)
        for run in unclaimed.runs[:]:
            run.on_end(partial(self._ended, unclaimed, run))
        return unclaimed

    def _on(self, znode: str) -> List[Unclaimed]:
        """The remains on this side of a znode: the latest edit first, in the order of
        the file."""
        found = [each for those in self._groups.get(znode, {}).values() for each in those]
        return sorted(found, key=lambda each: (-each.batch, 0 if each.batch else each.number))

    def _ended(self, unclaimed: Unclaimed, run: Running, _: RunEnd) -> None:
        if run in unclaimed.runs:
            unclaimed.runs.remove(run)
        self._drop_if_over(unclaimed)

    def _drop_if_over(self, unclaimed: Unclaimed) -> None:
        is_over = not unclaimed.runs and not unclaimed.has_pending and not unclaimed.watch
        if is_over and unclaimed in self._groups.get(unclaimed.znode, {}).get(unclaimed.key, ()):
            self._remove(unclaimed)

    def _remove(self, unclaimed: Unclaimed) -> None:
        group = self._groups[unclaimed.znode]
        group[unclaimed.key].remove(unclaimed)
        if not group[unclaimed.key]:
            del group[unclaimed.key]
        if not group:
            del self._groups[unclaimed.znode]


def znode_of(key: str) -> str:
    """The side and the path of the znode, from a watch's name without the number."""
    return key.rpartition(' ')[0]
