"""One scan of the configuration directory: finds the .twc files and the helper modules,
and the directories that this result depends on. Reads one file.

Names that begin with a dot are skipped and symlinks are followed. A directory is
entered once, by its own name rather than by a symlink's. Only regular files are ever
opened: a FIFO would block, a device would never end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import Deque, Dict, List, NamedTuple, Optional, Set, Tuple, Union

from twitcher.errors import ConfigError

SUFFIX = '.twc'
HELPER_SUFFIX = '.py'
MAX_FILE_SIZE = 1 << 20
"""Bytes. A larger file was not written by an administrator."""
MAX_SYMLINKS = 40
"""The number of symlinks that the kernel follows in one path: path_resolution(7)."""

Source = Union[bytes, ConfigError]
"""The text of a file, or the reason why it has none."""
Stats = Tuple[int, int, int, int, int]
"""Device, inode, size, mtime and ctime in nanoseconds: different if the file
changed."""
FileId = Tuple[int, int]
"""A file's device and inode."""
Entry = Tuple[FileId, str]
"""A directory and a name in it. inotify reports an event like this, no matter which
path leads there."""


class File(NamedTuple):
    """A .twc file or a helper. Events about its contents are reported for its
    `entries`: its own, and that of its target if it is a symlink."""

    stats: Stats
    entries: Tuple[Entry, ...]

    @property
    def file_id(self) -> FileId:
        """The device and the inode. Not a field: that would take 70 bytes for each
        file."""
        return self.stats[:2]


class Dependencies:
    """The directories to watch so that no change in the result of a scan is missed."""

    def __init__(self) -> None:
        self.directories: Dict[str, FileId] = {}
        self.listed: Set[FileId] = set()
        """The directories in which every file matters. In the others only `lookups`
        do."""
        self.lookups: Set[Entry] = set()
        """The entries through which the root and the symlinks are resolved."""


class Tree:
    """The result of one scan: `files` are the .twc files, `helpers` the .py files.
    `unreadable` are directories; `ignored` are files that look like .twc files and are
    not, each with the reason."""

    def __init__(self) -> None:
        self.files: Dict[str, File] = {}
        self.helpers: Dict[str, File] = {}
        self.unreadable: Dict[str, OSError] = {}
        self.ignored: Dict[str, str] = {}
        self.dependencies = Dependencies()

    def may_hold(self, path: str) -> bool:
        """Whether the path may exist in a directory that could not be read."""
        return any(path.startswith(directory.rstrip('/') + '/') for directory in self.unreadable)


def is_config(name: str) -> bool:
    """Whether this is the name of a .twc file."""
    return name.endswith(SUFFIX)


def is_followed(name: str) -> bool:
    """Whether this is the name of a .twc file, or of a module that one may import."""
    return name.endswith((SUFFIX, HELPER_SUFFIX))


def scan(root: str) -> Tree:
    """Find every .twc file and helper below the root."""
    return _Scan(root).tree


def file_id(path: str) -> FileId:
    """The file that a path leads to. Raises OSError."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def read(path: str) -> Optional[Tuple[Stats, Source]]:
    """The stats and the text of a file; None if it changed while it was read. Raises
    OSError."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        return _stats(status), ConfigError(f'{path}: it is no regular file')
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if before.st_size > MAX_FILE_SIZE:
            reason = f'{path}: it has {before.st_size} bytes; allowed: {MAX_FILE_SIZE}'
            return _stats(before), ConfigError(reason)
        text = os.read(descriptor, before.st_size + 1)
        while len(text) < before.st_size and (more := os.read(descriptor, before.st_size - len(text))):
            text += more
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    stats = _stats(before)
    return (stats, text) if stats == _stats(after) else None


def resolution(path: str) -> List[str]:
    """Every path that the kernel looks up to resolve an absolute path, up to the first
    that does not exist."""
    looked_up: List[str] = []
    waiting = deque(path.strip('/').split('/'))
    at = '/'
    links = 0
    while waiting:
        name = waiting.popleft()
        if name == '..':
            at = os.path.dirname(at)
        elif name not in ('', '.'):
            here = os.path.join(at, name)
            looked_up.append(here)
            try:
                target = os.readlink(here) if os.path.islink(here) else None
            except OSError:
                break
            if target is not None:
                links += 1
                if links > MAX_SYMLINKS:
                    break
                waiting.extendleft(reversed(target.split('/')))
                at = '/' if target.startswith('/') else at
            elif os.path.exists(here):
                at = here
            else:
                break
    return looked_up


def is_gone(error: OSError) -> bool:
    """Whether the error means that nothing is there, rather than that it cannot be
    read."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class _Scan:
    """A scan in progress."""

    def __init__(self, root: str) -> None:
        self.tree = Tree()
        self._found = self.tree.dependencies
        self._entered: Set[FileId] = set()
        self._own: Deque[str] = deque([root])
        self._linked: Deque[str] = deque()
        self._resolve(root)
        while self._own or self._linked:
            self._enter(self._own.popleft() if self._own else self._linked.popleft())

    def _enter(self, directory: str) -> None:
        try:
            status = os.stat(directory)
            directory_id = (status.st_dev, status.st_ino)
            if not stat.S_ISDIR(status.st_mode) or directory_id in self._entered:
                return
            self._entered.add(directory_id)
            self._found.directories[directory] = directory_id
            self._found.listed.add(directory_id)
            with os.scandir(directory) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if not entry.name.startswith('.'):
                        self._add(entry, directory_id)
        except (FileNotFoundError, NotADirectoryError):
            return  # removed since it was listed
        except OSError as error:
            self.tree.unreadable[directory] = error

    def _add(self, entry: os.DirEntry[str], directory_id: FileId) -> None:
        """Add an entry of a directory to the files, or to the directories to enter; or
        ignore it."""
        is_link = entry.is_symlink()
        target = self._resolve(entry.path) if is_link else None
        try:
            is_directory = entry.is_dir()
        except OSError as error:  # only of a symlink
            is_directory = False
            if not is_gone(error):
                self.tree.unreadable[entry.path] = error  # it may lead to a directory
        if is_directory:
            (self._linked if is_link else self._own).append(entry.path)
        elif is_followed(entry.name):
            files = self.tree.files if is_config(entry.name) else self.tree.helpers
            entries = ((directory_id, entry.name),) if target is None else ((directory_id, entry.name), target)
            try:
                status = entry.stat()
            except FileNotFoundError:
                if is_link and is_config(entry.name):
                    self.tree.ignored[entry.path] = (f'ignored: it is a symlink to {os.path.realpath(entry.path)}, which '
                                                     'does not exist; create that file or remove the symlink')
                return
            except OSError:
                status = entry.stat(follow_symlinks=False)  # `read` reports the error
            files[entry.path] = File(_stats(status), entries)
        elif is_config(entry.name.lower()):
            self.tree.ignored[entry.path] = f'ignored: rename it so that it ends in {SUFFIX}, in lower case'

    def _resolve(self, path: str) -> Optional[Entry]:
        """Add what the resolution of the path depends on. Returns the entry at its end;
        None if it cannot be resolved."""
        last: Optional[Entry] = None
        for step in resolution(path):
            directory, name = os.path.split(step)
            try:
                directory_id = self._found.directories.get(directory) or file_id(directory)
            except OSError as error:
                if not is_gone(error):
                    self.tree.unreadable[directory] = error
                return None
            self._found.directories[directory] = directory_id
            last = (directory_id, name)
            self._found.lookups.add(last)
        if last and is_followed(path):
            self._found.listed.add(last[0])
        return last


def _stats(status: os.stat_result) -> Stats:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
