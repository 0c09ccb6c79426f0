"""inotify: watches the directories that a scan depends on, and reports the events in
them that can change its result.

A directory has one watch, however many names lead to it, because the kernel keeps one
for each inode. The only module that knows pyinotify.
"""

from __future__ import annotations

import asyncio
import errno
import os
import warnings
from enum import Enum
from types import SimpleNamespace
from typing import Callable, Dict, Optional, Tuple

from twitcher.config.scan import Dependencies, Entry, FileId, file_id, is_followed
from twitcher.log import get_logger, take_over_library

warnings.filterwarnings('ignore', 'The asyncore module is deprecated', DeprecationWarning)
import pyinotify  # noqa: E402  # it imports asyncore, whose warning is of no use to an operator

log = get_logger(__name__)

# pyinotify runs ldconfig(8) or a compiler to find libc: a process, and some
# milliseconds of our start. If the search finds nothing it uses the libc already
# loaded, so let it find nothing.
if pyinotify.ctypes:
    pyinotify.ctypes = SimpleNamespace(**{**vars(pyinotify.ctypes), 'util': SimpleNamespace(find_library=lambda name: None)})

# Without IN_DELETE_SELF, which IN_IGNORED follows, and IN_MOVE_SELF, which the parent
# directory reports as well.
_ENTRIES = (pyinotify.IN_CREATE | pyinotify.IN_MOVED_FROM | pyinotify.IN_MOVED_TO | pyinotify.IN_DELETE
            | pyinotify.IN_ONLYDIR)
_WRITING = pyinotify.IN_MODIFY | pyinotify.IN_CLOSE_WRITE | pyinotify.IN_ATTRIB
_ENTRIES_AND_CONTENTS = _ENTRIES | _WRITING


class Change(Enum):
    """The meaning of an event for a file: it is being written, it is complete, or it
    changed in another way."""

    WRITING = 'writing'
    COMPLETE = 'complete'
    OTHER = 'other'


OnEvent = Callable[[Optional[Entry], Change], None]


class Inotify:
    """The kernel's watches. Calls `on_event` for each event, with None instead of an
    entry if the kernel dropped events.

    Raises OSError if the limit of inotify instances is reached.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_event: OnEvent) -> None:
        take_over_library('pyinotify')
        pyinotify.log.disabled = True  # it logs about its own lookup of paths, which we do not use
        self._on_event = on_event
        self.unwatched: Dict[FileId, str] = {}
        """The directories that cannot be watched, with the reasons."""
        self._watched: Dict[FileId, Tuple[int, int]] = {}
        self._watched_as: Dict[int, FileId] = {}
        self._dependencies = Dependencies()
        try:
            self._manager = pyinotify.WatchManager()
        except (OSError, pyinotify.PyinotifyError) as error:
            raise OSError(f'{error}; see fs.inotify.max_user_instances') from error
        os.set_inheritable(self._manager.get_fd(), False)
        self._notifier = _Notifier(self._manager, loop, default_proc_fun=self._event)

    def watch(self, dependencies: Dependencies) -> bool:
        """Watch these directories and no others. Returns whether any was not watched
        before: then the scan may have missed a change there and must be repeated."""
        self._dependencies = dependencies
        self.unwatched.clear()
        has_grown = False
        for path, directory in dependencies.directories.items():
            mask = _ENTRIES_AND_CONTENTS if directory in dependencies.listed else _ENTRIES
            if self._watched.get(directory, (-1, 0))[1] & mask != mask and directory not in self.unwatched:
                has_grown |= self._add(path, directory, mask)
        wanted = set(dependencies.directories.values())
        for descriptor, directory in list(self._watched_as.items()):
            if directory not in wanted:
                del self._watched_as[descriptor]
                self._watched.pop(directory, None)
                self._manager.rm_watch(descriptor)
        return has_grown

    def drain(self) -> None:
        """Report the events up to now."""
        self._notifier.handle_read()

    def stop(self) -> None:
        """Remove all watches."""
        self._notifier.stop()

    def _add(self, path: str, directory: FileId, mask: int) -> bool:
        """Watch a directory. Returns whether the scan must be repeated."""
        try:
            descriptor = self._manager.add_watch(path, mask, quiet=False)[path]
            watched = file_id(path)
        except UnicodeError:
            self.unwatched[directory] = f'{path!a}: inotify cannot watch a directory whose name is not UTF-8'
            return False
        except pyinotify.WatchManagerError as error:
            reason = str(error).partition('Errno=')[2] or str(error)
            if os.strerror(errno.ENOENT) in reason or os.strerror(errno.ENOTDIR) in reason:
                return True  # gone since the scan
            self.unwatched[directory] = ('inotify cannot watch all directories '
                                         f'({reason}; see fs.inotify.max_user_watches)')
            return False
        except OSError:
            return True
        # By its present identity: the directory may have been replaced since the scan.
        previous = self._watched_as.get(descriptor)
        if previous is not None:
            self._watched.pop(previous, None)
        self._watched[watched], self._watched_as[descriptor] = (descriptor, mask), watched
        return True

    def _event(self, event: pyinotify.Event) -> None:
        if event.mask & pyinotify.IN_Q_OVERFLOW:
            self._watched.clear()  # the event that a watch has ended may be among the lost ones
            log.debug('inotify lost events; reading everything')
            self._on_event(None, Change.OTHER)
            return
        directory = self._watched_as.get(event.wd)
        if directory is None:
            return
        if event.mask & pyinotify.IN_IGNORED:
            del self._watched_as[event.wd]
            if self._watched.get(directory, (-1, 0))[0] == event.wd:
                del self._watched[directory]
        entry = (directory, getattr(event, 'name', ''))
        if self._is_of_interest(entry, event.mask):
            self._on_event(entry, _change(event.mask))

    def _is_of_interest(self, entry: Entry, mask: int) -> bool:
        """Ignores siblings in ancestor directories, editors' temporary files, and
        writes to files that are neither .twc nor .py."""
        directory, name = entry
        if not name or entry in self._dependencies.lookups:
            return True
        is_other_file = not (is_followed(name) or mask & pyinotify.IN_ISDIR)
        return (directory in self._dependencies.listed and not name.startswith('.')
                and not (is_other_file and mask & _WRITING))


class _Notifier(pyinotify.AsyncioNotifier):
    """pyinotify's notifier, which by itself gives up on a file name that is not
    UTF-8."""

    def handle_read(self, *args: object, **kwargs: object) -> None:
        """Pass on the events that are queued."""
        if not self.check_events(timeout=0):  # `drain` has read them already
            return
        try:
            super().handle_read(*args, **kwargs)
        except UnicodeDecodeError:
            self._default_proc_fun(pyinotify.Event({'mask': pyinotify.IN_Q_OVERFLOW}))


def _change(mask: int) -> Change:
    if mask & pyinotify.IN_MODIFY:
        return Change.WRITING
    return Change.OTHER if mask & (pyinotify.IN_ATTRIB | pyinotify.IN_CREATE) else Change.COMPLETE
