"""The directory of .twc files: which are there, which changed, what they say.

Guarantees: after anything happens below the root, `on_change` is called with every file whose text is new and every file
that is gone, compared with the last call. A file that somebody is still writing is left alone until it is closed, or for
WRITING_LIMIT. `inotify` only says when to look; what is true is what a look at the disk finds.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple

from twitcher.configtree import HELPER_SUFFIX, SUFFIX, Text, Tree, read, walk
from twitcher.errors import ConfigError
from twitcher.inotify import Inotify, NoInotify, Notice

log = logging.getLogger(__name__)

SETTLE = 0.05
"""Seconds from an event to the look at the disk: an editor's or a package manager's events come in bursts."""
WRITING_LIMIT = 10.0
"""Seconds after its last write that a file which is still open for writing is read all the same."""
POLL = 10.0
"""Seconds between two looks at the disk when inotify cannot be had for all of it."""


@dataclass(frozen=True)
class Changes:
    """What a look at the disk found: files with their new text, or why it cannot be had; the files that are gone; and the
    helper modules that are new, changed or gone."""

    texts: Dict[str, Text]
    gone: List[str]
    helpers: Set[str] = field(default_factory=set)


class ConfigDir:
    """Follows the .twc files below `root`; `start` once, on a running loop.

    Files that are in `known`, and no longer there, are reported as gone.
    """

    def __init__(self, root: str, on_change: Callable[[Changes], None], known: Iterable[str] = ()) -> None:
        self._root = os.path.abspath(root)
        self._on_change = on_change
        self._stats: Dict[str, Tuple[int, ...]] = {}
        self._texts: Dict[str, Text] = {}
        self._known = list(known)
        self._helpers: Dict[str, Tuple[int, ...]] = {}
        self._writing: Dict[str, float] = {}
        self._touched: Set[str] = set()
        self._look: Optional[asyncio.TimerHandle] = None
        self._complained: Set[str] = set()

    def start(self) -> None:
        """Read everything and follow it from now on. Calls `on_change` before it returns, if there is any file."""
        self._loop = asyncio.get_running_loop()
        try:
            self._inotify: Notice = Inotify(self._loop, self._note)
        except OSError as error:
            self._inotify = NoInotify(f'inotify cannot be used: {error}')
        self._rescan(everything=False)

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._look:
            self._look.cancel()
        self._inotify.stop()

    def reread(self) -> None:
        """Look at the disk now and report every file, also those whose text is what it was."""
        self._rescan(everything=True)

    def _rescan(self, everything: bool) -> None:
        """Look at the disk. What happens before and during the look is taken into account, so far as the kernel tells it."""
        self._inotify.drain()
        if self._look:
            self._look.cancel()
            self._look = None
        tree = self._walk()
        texts = {}
        for path, status in tree.files.items():
            if self._is_settled(path, tree) and self._read(path, tree, status, everything):
                texts[path] = self._texts[path]
        helpers = self._changed_helpers(tree)
        self._touched.clear()
        self._inotify.drain()
        for path in [path for path in texts if not self._is_settled(path, tree)]:
            del texts[path], self._stats[path]  # somebody has begun to write it: what was read may be half of it
        missing = [path for path in [*self._texts, *self._known] if path not in tree.files]
        gone = [path for path in missing if not tree.may_hold(path)]
        self._known = [path for path in self._known if path not in tree.files and tree.may_hold(path)]
        for path in gone:
            self._texts.pop(path, None)
            self._stats.pop(path, None)
        if texts or gone or helpers:
            self._on_change(Changes(texts, gone, helpers))

    def _changed_helpers(self, tree: Tree) -> Set[str]:
        """The helpers that are not what they were. One that is being written is left alone, as long as it is."""
        changed = {path for path in self._helpers if path not in tree.helpers and not tree.may_hold(path)}
        for path in changed:
            del self._helpers[path]
        for path, status in tree.helpers.items():
            is_touched = path in self._touched or tree.targets.get(path) in self._touched
            if self._is_settled(path, tree) and (is_touched or self._helpers.get(path) != _stats(status)):
                self._helpers[path] = _stats(status)
                changed.add(path)
        return changed

    def _walk(self) -> Tree:
        self._inotify.begin()
        tree = walk(self._root, self._inotify)
        self._inotify.end()
        if self._inotify.shortcoming:
            self._complain(f'{self._inotify.shortcoming}: looking at {self._root} every {POLL:g} s instead')
            self._look_in(POLL)
        for directory, reason in tree.hidden.items():
            self._complain(f'{directory}: cannot be read: {reason}; what it held stays in force')
        return tree

    def _is_settled(self, path: str, tree: Tree) -> bool:
        """Whether nobody is in the middle of writing the file."""
        now = self._loop.time()
        for name in (path, tree.targets.get(path, path)):
            if self._writing.get(name, now) > now:
                self._look_in(self._writing[name] - now)
                return False
            self._writing.pop(name, None)
        return True

    def _read(self, path: str, tree: Tree, status: os.stat_result, always: bool) -> bool:
        """Read the file if it may have changed; whether there is something to report."""
        stats = _stats(status)
        # Two edits in one tick of the file system's clock leave the same stats: hence `touched`.
        is_touched = path in self._touched or tree.targets.get(path) in self._touched
        if not always and self._stats.get(path) == stats and not is_touched:
            return False
        before, after = self._texts.get(path), read(path)
        if after is None:
            return False  # gone since: there is an event of that
        self._stats[path], self._texts[path] = stats, after
        both_failed = isinstance(before, ConfigError) and isinstance(after, ConfigError) and str(before) == str(after)
        return always or not (before == after or both_failed)

    def _note(self, path: str, is_writing: bool, is_final: bool) -> None:
        """One event: remember what it says about writers, and look soon. An event of unknown origin has an empty path."""
        if is_writing:
            if path.endswith((SUFFIX, HELPER_SUFFIX)):
                self._writing[path] = self._loop.time() + WRITING_LIMIT
            return
        if is_final:
            self._writing.pop(path, None)
        self._touched.add(path)
        self._look_in(SETTLE)

    def _look_in(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._look and self._look.when() > due:
            self._look.cancel()
            self._look = None
        if not self._look:
            self._look = self._loop.call_at(due, self._rescan, False)

    def _complain(self, message: str) -> None:
        if message not in self._complained:
            self._complained.add(message)
            log.warning('%s', message)


def _stats(status: os.stat_result) -> Tuple[int, ...]:
    """What changes when a file does."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
