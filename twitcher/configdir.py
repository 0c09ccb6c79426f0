"""The directory of .twc files: which are there, which changed, what they say.

Guarantees: after anything happens below the root, `on_change` is called with every file whose text is new and every file
that is gone, compared with the last call. inotify only says when to look; what is true is what a look at the disk finds.
A file that somebody is still writing is left alone until it is closed, or for WRITING_LIMIT. The only module that knows
pyinotify.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Set, Tuple

import pyinotify

from twitcher.configtree import SUFFIX, Place, Text, Tree, nearest_directory, place_of, read, walk
from twitcher.errors import ConfigError

log = logging.getLogger(__name__)

SETTLE = 0.05
"""Seconds from an event to the look at the disk: an editor's or a package manager's events come in bursts."""
WRITING_LIMIT = 10.0
"""Seconds after its last write that a file which is still open for writing is read all the same."""
POLL = 10.0
"""Seconds between two looks at the disk when inotify cannot be had for all of it."""

_AROUND = (pyinotify.IN_CREATE | pyinotify.IN_MOVED_FROM | pyinotify.IN_MOVED_TO | pyinotify.IN_DELETE
           | pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_ONLYDIR)
_WITHIN = _AROUND | pyinotify.IN_CLOSE_WRITE | pyinotify.IN_MODIFY | pyinotify.IN_ATTRIB


@dataclass(frozen=True)
class Changes:
    """What a look at the disk found: files with their new text, or why it cannot be had; and the files that are gone."""

    texts: Dict[str, Text]
    gone: List[str]


class ConfigDir:
    """Follows the .twc files below `root`; `start` once, on a running loop."""

    def __init__(self, root: str, on_change: Callable[[Changes], None]) -> None:
        self._root = os.path.abspath(root)
        self._on_change = on_change
        self._stats: Dict[str, Tuple[int, ...]] = {}
        self._texts: Dict[str, Text] = {}
        self._writing: Dict[str, float] = {}
        self._touched: Set[str] = set()
        self._look: Optional[asyncio.TimerHandle] = None
        self._inotify: Optional[_Inotify] = None
        self._complained: Set[str] = set()

    def start(self) -> None:
        """Read everything and follow it from now on. Calls `on_change` before it returns, if there is any file."""
        self._loop = asyncio.get_running_loop()
        try:
            self._inotify = _Inotify(self._loop, self._root, self._note)
        except (OSError, pyinotify.PyinotifyError) as error:
            log.warning('inotify cannot be used (%s; see fs.inotify.max_user_instances): looking at %s every %g s instead',
                        error, self._root, POLL)
        self._rescan(everything=False)

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._look:
            self._look.cancel()
        if self._inotify:
            self._inotify.stop()

    def reread(self) -> None:
        """Look at the disk now and report every file, also those whose text is what it was."""
        self._rescan(everything=True)

    def _rescan(self, everything: bool) -> None:
        if self._look:
            self._look.cancel()
            self._look = None
        tree = self._walk()
        texts = {}
        for path, status in tree.files.items():
            if self._is_settled(path) and self._read(path, status, everything):
                texts[path] = self._texts[path]
        self._touched.clear()
        gone = [path for path in self._texts if path not in tree.files and not tree.may_hold(path)]
        for path in gone:
            del self._texts[path], self._stats[path]
        if texts or gone:
            self._on_change(Changes(texts, gone))

    def _walk(self) -> Tree:
        inotify = self._inotify
        if not inotify:
            tree = walk(self._root, lambda directory, place: None)
            self._look_in(POLL)
        else:
            inotify.begin(nearest_directory(os.path.dirname(self._root)))
            tree = walk(self._root, inotify.enter)
            inotify.end()
            if inotify.is_partial:
                self._complain(f'inotify cannot watch all of {self._root} (see fs.inotify.max_user_watches): looking at it '
                               f'every {POLL:g} s instead')
                self._look_in(POLL)
        for directory, reason in tree.hidden.items():
            self._complain(f'{directory}: cannot be read: {reason}; what it held stays in force')
        return tree

    def _is_settled(self, path: str) -> bool:
        """Whether nobody is in the middle of writing the file."""
        now = self._loop.time()
        if self._writing.get(path, now) > now:
            self._look_in(self._writing[path] - now)
            return False
        self._writing.pop(path, None)
        return True

    def _read(self, path: str, status: os.stat_result, always: bool) -> bool:
        """Read the file if it may have changed; whether there is something to report."""
        stats = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        # Two edits in one tick of the file system's clock leave the same stats: hence `touched`.
        if not always and self._stats.get(path) == stats and path not in self._touched:
            return False
        before, after = self._texts.get(path), read(path)
        self._stats[path], self._texts[path] = stats, after
        both_failed = isinstance(before, ConfigError) and isinstance(after, ConfigError) and str(before) == str(after)
        return always or not (before == after or both_failed)

    def _note(self, mask: int, path: str) -> None:
        """One event: remember what it says about writers, and look soon. An unknown event has an empty path."""
        if mask & pyinotify.IN_MODIFY:
            if path.endswith(SUFFIX):
                self._writing[path] = self._loop.time() + WRITING_LIMIT
            return
        if not mask & (pyinotify.IN_ATTRIB | pyinotify.IN_CREATE):
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


class _Inotify:
    """The directories that the kernel watches for us: after each walk exactly those that it entered, and the one above.

    Raises OSError or PyinotifyError where the machine has no inotify to give.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, root: str, note: Callable[[int, str], None]) -> None:
        logging.getLogger('pyinotify').handlers.clear()  # it would write to stderr by itself
        self._root = root
        self._note = note
        self._above = ''
        self._watched: Dict[str, Tuple[Place, int]] = {}
        self._entered: Set[str] = set()
        self.is_partial = False
        self._manager = pyinotify.WatchManager()
        os.set_inheritable(self._manager.get_fd(), False)
        self._notifier = _Notifier(self._manager, loop, default_proc_fun=self._event)

    def begin(self, above: str) -> None:
        """A walk begins; the root is at, or will come up below, the directory `above`."""
        self._entered = set()
        self.is_partial = False
        self._above = above
        self.enter(above, place_of(above))

    def enter(self, directory: str, place: Place) -> None:
        """Watch a directory, if it is not watched already."""
        self._entered.add(directory)
        if directory in self._watched and self._watched[directory][0] == place:
            return
        mask = _AROUND if directory == self._above else _WITHIN
        try:
            self._watched[directory] = (place, self._manager.add_watch(directory, mask, quiet=False)[directory])
        except (pyinotify.WatchManagerError, UnicodeError):  # no watches left, or a name that pyinotify cannot encode
            self.is_partial = True

    def end(self) -> None:
        """The walk is over: watch nothing else any more."""
        self._watched = {path: watch for path, watch in self._watched.items() if path in self._entered}
        kept = {descriptor for _, descriptor in self._watched.values()}
        self._manager.rm_watch([descriptor for descriptor in self._manager.watches if descriptor not in kept])

    def stop(self) -> None:
        """Give the kernel everything back."""
        self._notifier.stop()

    def _event(self, event: pyinotify.Event) -> None:
        path = getattr(event, 'pathname', '')
        if event.mask & pyinotify.IN_Q_OVERFLOW:
            self._watched.clear()
            log.debug('inotify lost events; reading everything')
        if event.mask & (pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_IGNORED):
            self._watched.pop(path, None)
        elif os.path.dirname(path) == self._above and not (self._root + '/').startswith(path + '/'):
            return  # a neighbour of the root
        self._note(event.mask, path)


class _Notifier(pyinotify.AsyncioNotifier):
    """pyinotify's notifier, less its habit to give up on a file name that is not UTF-8."""

    def handle_read(self, *args: object, **kwargs: object) -> None:
        try:
            super().handle_read(*args, **kwargs)
        except UnicodeDecodeError:
            self._default_proc_fun(pyinotify.Event({'mask': pyinotify.IN_Q_OVERFLOW}))
