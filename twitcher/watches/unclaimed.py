"""What watches have left that are not in force: runs in progress, pending updates, and what they have seen.

A watch is left by an edit, by the removal or renaming of its file, or by an earlier daemon; one rule says who goes on
from it. A new watch claims what was left under its own name, in whatever file that was: its name is what it does, to
which side of which znode. Those that find nothing go on, in order, from what is left in the same file on the same
znode. A new watch also waits for every run that is left on its znode, until the run is claimed or over.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from twitcher.config.spec import WatchSpec
from twitcher.run_record import RunEnd
from twitcher.watches.watch import Running, Watch


class Left:
    """What one watch has left. `watch` is None if it was an earlier daemon's, or has been gone for long.

    `key` is what all watches that do the same have in common: the name without its number. `batch` numbers the edits.
    """

    def __init__(self, name: str, path: str, watch: Optional[Watch] = None, runs: Optional[List[Running]] = None,
                 is_expired: bool = False, batch: int = 0) -> None:
        self.name = name
        self.path = path
        self.watch = watch
        self.runs: List[Running] = [] if runs is None else runs
        self.has_pending = False
        self.is_old = False
        self.is_expired = is_expired
        self.batch = batch
        self.waiting: List[Watch] = []
        self.key, _, number = name.rpartition(' ')
        self.znode = znode_of(self.key)
        self.number = int(number)


class Claim(NamedTuple):
    """What a new watch goes on from.

    If `name` is not None the watch was left under it, and goes on under it; else it is another one in its place. `is_same`
    if it asks for the same in each respect.
    """

    name: Optional[str] = None
    left: Optional[Left] = None
    is_same: bool = False
    runs: Sequence[Running] = ()


class UnclaimedRuns:
    """`on_expiry` is called with the name of each watch that is gone for good, and with it its pending update.

    `is_known(path, key)` says whether a new watch of this file is known, so that it is no new version of
    another one, though nothing was left under its name.
    """

    def __init__(self, on_expiry: Callable[[str], None], is_known: Callable[[str, str], bool]) -> None:
        self._on_expiry = on_expiry
        self._is_known = is_known
        self._batch = 0
        self._left: Dict[str, Dict[str, List[Left]]] = {}  # by znode and side, and by key

    def __iter__(self) -> Iterator[Left]:
        return iter([left for group in self._left.values() for lefts in group.values() for left in lefts])

    def has(self, name: str) -> bool:
        """Whether something was left under the name."""
        key = name.rpartition(' ')[0]
        return any(left.name == name for left in self._left.get(znode_of(key), {}).get(key, ()))

    def has_runs(self, znode: str) -> bool:
        """Whether a run is left on this side of the znode."""
        return any(left.runs for left in self._on(znode))

    def add(self, watches: Sequence[Watch]) -> None:
        """These watches of a file are not in force any more; they have been closed."""
        self._batch += 1
        for watch in watches:
            self._add(Left(watch.name, watch.path, watch, watch.runs, batch=self._batch))

    def add_run(self, name: str, path: str, run: Running) -> None:
        """A run of an earlier daemon is in progress; `path` is the file of its watch, if that is known."""
        left = self._of_earlier_daemon(name, path)
        left.runs.append(run)
        run.on_end(partial(self._ended, left, run))

    def add_pending(self, name: str, path: str) -> None:
        """An update is pending that an earlier daemon has received."""
        self._of_earlier_daemon(name, path).has_pending = True

    def expire(self, left: Left) -> None:
        """The watch is gone for good. Its runs go on, and are waited for."""
        left.is_expired, left.has_pending, left.watch = True, False, None
        self._on_expiry(left.name)
        self._drop_if_over(left)

    def claim(self, path: str, specs: Sequence[WatchSpec], keys: Sequence[str]) -> List[Claim]:
        """What each of these new watches of a file goes on from; `keys` are their names without the numbers."""
        claims = [Claim()] * len(specs)
        places: Dict[str, List[int]] = {}
        if self._left:
            for index, key in enumerate(keys):
                places.setdefault(znode_of(key), []).append(index)
        for znode, indices in places.items():
            if znode in self._left:
                for index in indices:
                    claims[index] = self._claim_own(path, specs[index], keys[index])
                new = [index for index in indices if not claims[index].left and not self._is_known(path, keys[index])]
                self._claim_in_order(path, znode, new, claims)
        return claims

    def wait(self, watch: Watch, znode: str) -> None:
        """Let a new watch wait for the runs that are left on its side of the znode."""
        for left in self._on(znode):
            if left.runs:
                left.waiting.append(watch)
                watch.wait_for(left.runs)

    def _claim_own(self, path: str, spec: WatchSpec, key: str) -> Claim:
        """By name. Of several that did the same, take one that asked for the same in each respect, or of the same file."""
        own = self._left.get(znode_of(key), {}).get(key)
        if not own:
            return Claim()
        same = [left for left in own if left.watch and left.watch.spec.is_same(spec)]
        left = min(same or own, key=lambda left: (left.path != path, left.number))
        self._remove(left)
        for other in left.waiting:
            for run in left.runs[:]:
                other.stop_waiting_for(run)
        return Claim(left.name, left, left in same, left.runs)

    def _claim_in_order(self, path: str, znode: str, indices: List[int], claims: List[Claim]) -> None:
        """If as many are left as have come, each takes the place of one. Else it is not certain whose new version each is,
        and the runs stay here, so that all new watches wait for them."""
        rest = [left for left in self._on(znode) if left.path == path and not left.is_expired]
        is_certain = len(rest) == len(indices)
        for index, left in zip(indices, rest):
            self._remove(left)
            claims[index] = Claim(None, left, False, left.runs if is_certain else ())
            if left.runs and not is_certain:
                self._add(Left(left.name, path, None, left.runs[:], is_expired=True))

    def _of_earlier_daemon(self, name: str, path: str) -> Left:
        new = Left(name, path)
        known = [left for left in self._left.get(new.znode, {}).get(new.key, ()) if left.name == name]
        return known[0] if known else self._add(new)

    def _add(self, left: Left) -> Left:
        self._left.setdefault(left.znode, {}).setdefault(left.key, []).append(left)
        for run in left.runs[:]:
            run.on_end(partial(self._ended, left, run))
        return left

    def _on(self, znode: str) -> List[Left]:
        """What was left on this side of a znode, by the last edit first, and in the order of the file."""
        lefts = [left for lefts in self._left.get(znode, {}).values() for left in lefts]
        return sorted(lefts, key=lambda left: (-left.batch, 0 if left.batch else left.number))

    def _ended(self, left: Left, run: Running, _: RunEnd) -> None:
        if run in left.runs:
            left.runs.remove(run)
        self._drop_if_over(left)

    def _drop_if_over(self, left: Left) -> None:
        is_over = not left.runs and not left.has_pending and not left.watch
        if is_over and left in self._left.get(left.znode, {}).get(left.key, ()):
            self._remove(left)

    def _remove(self, left: Left) -> None:
        group = self._left[left.znode]
        group[left.key].remove(left)
        if not group[left.key]:
            del group[left.key]
        if not group:
            del self._left[left.znode]


def znode_of(key: str) -> str:
    """The side and the znode of a watch, from its name without the number."""
    return key.rpartition(' ')[0]
