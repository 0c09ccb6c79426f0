"""What the kernel tells about directories: which to watch is said by a walk of the tree, what happens there is passed on.

Watches every directory that the walk enters, and those in which something lies by which a path of it is resolved: a
directory above the root, a symlink on the way, a symlink's target. The only module that knows pyinotify.
"""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from types import SimpleNamespace
from typing import Callable, Dict, Protocol, Set, Tuple

from twitcher.configtree import HELPER_SUFFIX, SUFFIX, Follower, Place, place_of, resolution

warnings.filterwarnings('ignore', 'The asyncore module is deprecated', DeprecationWarning)
import pyinotify  # noqa: E402  # it imports asyncore, and that is no news for an operator

log = logging.getLogger(__name__)

# It would have ldconfig(8) or a compiler find libc: a process, and some milliseconds of our start. We have libc in us, and
# that is what it takes when none is found.
if pyinotify.ctypes:
    pyinotify.ctypes = SimpleNamespace(**{**vars(pyinotify.ctypes), 'util': SimpleNamespace(find_library=lambda name: None)})

_AROUND = (pyinotify.IN_CREATE | pyinotify.IN_MOVED_FROM | pyinotify.IN_MOVED_TO | pyinotify.IN_DELETE
           | pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_ONLYDIR)
_WITHIN = _AROUND | pyinotify.IN_CLOSE_WRITE | pyinotify.IN_MODIFY | pyinotify.IN_ATTRIB

Note = Callable[[str, bool, bool], None]


class Notice(Follower, Protocol):
    """Tells when to look at the disk again. `shortcoming` is why it may not, or empty."""

    shortcoming: str

    def begin(self) -> None:
        """A walk begins: what it does not name is not to be watched any more."""

    def end(self) -> None:
        """The walk is over."""

    def drain(self) -> None:
        """Pass on what has happened up to now."""

    def stop(self) -> None:
        """Give everything back."""


class NoInotify:
    """Takes the place of Inotify on a machine that has none to give."""

    def __init__(self, shortcoming: str) -> None:
        self.shortcoming = shortcoming

    def begin(self) -> None:
        """As Notice says."""

    def enter(self, directory: str, place: Place) -> None:
        """As Follower says."""

    def follow(self, path: str) -> None:
        """As Follower says."""

    def end(self) -> None:
        """As Notice says."""

    def drain(self) -> None:
        """As Notice says."""

    def stop(self) -> None:
        """As Notice says."""


class Inotify:
    """The kernel's watches. `note(path, is_writing, is_final)` is called for each event: the file is being written, or is
    complete; with an empty path when nobody knows what happened. Raises OSError where the machine has no inotify to give.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, note: Note) -> None:
        logging.getLogger('pyinotify').handlers.clear()  # it would write to stderr by itself
        self._note = note
        self.shortcoming = ''
        self._watched: Dict[str, Tuple[Place, int, int]] = {}
        self._entered: Set[str] = set()
        self._around: Set[str] = set()
        self._on_the_way: Set[str] = set()
        try:
            self._manager = pyinotify.WatchManager()
        except (OSError, pyinotify.PyinotifyError) as error:
            raise OSError(f'{error}; see fs.inotify.max_user_instances') from error
        os.set_inheritable(self._manager.get_fd(), False)
        self._notifier = _Notifier(self._manager, loop, default_proc_fun=self._event)

    def begin(self) -> None:
        """As Notice says."""
        self.shortcoming = ''
        self._entered, self._around, self._on_the_way = set(), set(), set()

    def enter(self, directory: str, place: Place) -> None:
        """As Follower says."""
        self._entered.add(directory)
        self._watch(directory, place, _WITHIN)

    def follow(self, path: str) -> None:
        """As Follower says."""
        steps = resolution(path)
        for step in steps:
            home = os.path.dirname(step)
            self._on_the_way.add(step)
            self._around.add(home)
            try:
                # The last may be a file of ours itself, whose writing is of interest.
                is_file = step is steps[-1] and path.endswith((SUFFIX, HELPER_SUFFIX))
                self._watch(home, place_of(home), _WITHIN if is_file else _AROUND)
            except OSError:
                return  # gone in this moment, of which there is an event

    def end(self) -> None:
        """As Notice says."""
        named = self._entered | self._around
        self._watched = {path: watch for path, watch in self._watched.items() if path in named}
        kept = {descriptor for _, _, descriptor in self._watched.values()}
        self._manager.rm_watch([descriptor for descriptor in self._manager.watches if descriptor not in kept])

    def drain(self) -> None:
        """As Notice says."""
        self._notifier.handle_read()

    def stop(self) -> None:
        """As Notice says."""
        self._notifier.stop()

    def _watch(self, directory: str, place: Place, mask: int) -> None:
        known_place, known_mask, _ = self._watched.get(directory, (None, 0, -1))
        if known_place == place and known_mask & mask == mask:
            return
        try:
            descriptor = self._manager.add_watch(directory, mask, quiet=False)[directory]
            self._watched[directory] = (place, mask, descriptor)
        except UnicodeError:
            self.shortcoming = f'{directory!a}: inotify cannot watch a directory whose name is not UTF-8'
        except pyinotify.WatchManagerError as error:
            reason = str(error).partition('Errno=')[2] or str(error)
            self.shortcoming = f'inotify cannot watch all directories ({reason}; see fs.inotify.max_user_watches)'

    def _event(self, event: pyinotify.Event) -> None:
        path = getattr(event, 'pathname', '')
        if event.mask & pyinotify.IN_Q_OVERFLOW:
            self._watched.clear()
            log.debug('inotify lost events; reading everything')
        if event.mask & (pyinotify.IN_DELETE_SELF | pyinotify.IN_MOVE_SELF | pyinotify.IN_IGNORED):
            self._watched.pop(path, None)
        elif path and path not in self._on_the_way and not self._is_of_interest(path, event.mask):
            return
        self._note(path, bool(event.mask & pyinotify.IN_MODIFY),
                   not event.mask & (pyinotify.IN_MODIFY | pyinotify.IN_ATTRIB | pyinotify.IN_CREATE))


    def _is_of_interest(self, path: str, mask: int) -> bool:
        """Not a neighbour of something on the way, nor what editors leave for a moment, nor the writing of other files."""
        directory, name = os.path.split(path)
        is_other_file = not (name.endswith((SUFFIX, HELPER_SUFFIX)) or mask & pyinotify.IN_ISDIR)
        is_writing = mask & (pyinotify.IN_MODIFY | pyinotify.IN_CLOSE_WRITE | pyinotify.IN_ATTRIB)
        return directory in self._entered and not name.startswith('.') and not (is_other_file and is_writing)


class _Notifier(pyinotify.AsyncioNotifier):
    """pyinotify's notifier, less its habit to give up on a file name that is not UTF-8."""

    def handle_read(self, *args: object, **kwargs: object) -> None:
        """Pass on the events that there are, if any."""
        if not self.check_events(timeout=0):  # `drain` has been here first
            return
        try:
            super().handle_read(*args, **kwargs)
        except UnicodeDecodeError:
            self._default_proc_fun(pyinotify.Event({'mask': pyinotify.IN_Q_OVERFLOW}))
