"""Scans one directory. Everything that a scan depends on was watched before the scan
began, so that a change which the scan misses is reported as an event.

Where inotify cannot guarantee that, because of the kernel's limits or the type of the
file system, the scanner names the directories.
"""

from __future__ import annotations

import asyncio
from typing import Callable, Dict, Optional, Set

from twitcher.config.inotify import Inotify, OnEvent
from twitcher.config.mounts import TABLE, Mounts
from twitcher.config.scan import Dependencies, FileId, Tree, file_id, scan
from twitcher.log import get_logger

log = get_logger(__name__)

MAX_ROUNDS = 20
"""Scans in a row that may find a directory which is not watched yet. A tree that grows
faster is left to a later scan."""


class Scanner:
    """Scans `root`. Passes the events of inotify to `on_event`, and calls
    `request_scan` when another scan is needed, for example after a mount.

    `limited` are the directories and mounted files of the last scan that can change
    without an event. `shortages` has the general reasons, `silent` the reasons by path.
    """

    def __init__(self, root: str, loop: asyncio.AbstractEventLoop, on_event: OnEvent, request_scan: Callable[[], None]) -> None:
        self._root = root
        self._loop = loop
        self._on_event = on_event
        self._request_scan = request_scan
        self._inotify: Optional[Inotify] = None
        self._mounts: Optional[Mounts] = None
        self._dependencies = Dependencies()
        self.limited: Set[FileId] = set()
        self.shortages: Set[str] = set()
        self.silent: Dict[str, str] = {}

    def scan(self) -> Tree:
        """Scan, and again while that finds directories that are not watched yet."""
        self.shortages = set()
        self._open()
        for _ in range(MAX_ROUNDS):
            self.drain()  # learn which watches have ended: their inodes may be in use again
            tree = scan(self._root)
            self._dependencies = tree.dependencies
            if not self._inotify or not self._inotify.watch(tree.dependencies):
                break
        else:
            self._request_scan()
        self._note_limits(tree)
        return tree

    def drain(self) -> None:
        """Pass on the events up to now."""
        if self._inotify:
            self._inotify.drain()

    def stop(self) -> None:
        """Stop watching."""
        for source in (self._inotify, self._mounts):
            if source:
                source.stop()

    def _open(self) -> None:
        """Open inotify and the table of mounts. What fails is tried again by each
        scan."""
        try:
            self._mounts = self._mounts or Mounts(self._loop, self._mounts_changed)
        except OSError as error:
            self.shortages.add(f'{TABLE} cannot be used: {error.strerror}')
        try:
            self._inotify = self._inotify or Inotify(self._loop, self._on_event)
        except OSError as error:
            self.shortages.add(f'inotify cannot be used: {error}')

    def _note_limits(self, tree: Tree) -> None:
        unwatched = self._inotify.unwatched if self._inotify else dict.fromkeys(tree.dependencies.listed, '')
        self.shortages.update(filter(None, unwatched.values()))
        self.limited, self.silent = set(unwatched), {}
        if not self._mounts:
            return
        types = self._mounts.silent(tree.dependencies)
        if types:
            self.limited.update(types)
            self.silent[self._root] = f'on {", ".join(sorted(set(types.values())))}'
        for path, file in tree.files.items() if self._mounts.mounted_files else ():
            if file.file_id in self._mounts.mounted_files:
                self.limited.add(file.file_id)
                self.silent[path] = 'of a file that is a mount of its own'

    def _mounts_changed(self, has_file: bool) -> None:
        if has_file or any(_has_moved(path, known) for path, known in self._dependencies.directories.items()):
            self._request_scan()


def _has_moved(path: str, known: FileId) -> bool:
    try:
        return file_id(path) != known
    except OSError:
        return True
