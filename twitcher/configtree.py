"""What is on the disk below the configuration directory: its .twc files, the helper modules beside them, its directories,
and what a file says.

Names that begin with a dot are passed over, symlinks are followed, a directory is entered once: by its own name rather than
by a symlink's. Never opens what is no regular file: a FIFO would block, a device would never end.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from dataclasses import dataclass, field
from typing import Deque, Dict, List, Optional, Protocol, Set, Tuple, Union

from twitcher.errors import ConfigError

SUFFIX = '.twc'
HELPER_SUFFIX = '.py'
LARGEST = 1 << 20
"""Bytes that a .twc may have. What is larger was not written by an administrator."""
MOST_SYMLINKS = 40
"""Symlinks that the kernel follows in one path: path_resolution(7)."""

Text = Union[bytes, ConfigError]
Place = Tuple[int, int]
"""A file's device and inode."""


class Follower(Protocol):
    """Who wants to know where to look for changes. Both are called before what they name is looked at."""

    def enter(self, directory: str, place: Place) -> None:
        """The directory's files are about to be listed."""

    def follow(self, path: str) -> None:
        """The path is about to be resolved, and may lead out of the tree."""


@dataclass
class Tree:
    """What one walk found. `files` are the .twc files, `helpers` the .py files. `targets`: where symlinks lead; `hidden`:
    the directories that cannot be read, and why."""

    files: Dict[str, os.stat_result] = field(default_factory=dict)
    helpers: Dict[str, os.stat_result] = field(default_factory=dict)
    targets: Dict[str, str] = field(default_factory=dict)
    hidden: Dict[str, str] = field(default_factory=dict)

    def may_hold(self, path: str) -> bool:
        """Whether the path could still be there, in a directory that could not be read."""
        return any(path.startswith(directory + '/') for directory in self.hidden)


def walk(root: str, follower: Follower) -> Tree:
    """Find every .twc file below the root."""
    tree = Tree()
    visited: Set[Place] = set()
    follower.follow(root)
    real: Deque[str] = deque([root])
    linked: Deque[str] = deque()
    while real or linked:
        directory = real.popleft() if real else linked.popleft()
        try:
            status = os.stat(directory)
            place = (status.st_dev, status.st_ino)
            if stat.S_ISDIR(status.st_mode) and place not in visited:
                visited.add(place)
                follower.enter(directory, place)
                _list(directory, tree, follower, real, linked)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile: it holds nothing
        except OSError as error:
            tree.hidden[directory] = str(error.strerror)
    return tree


def resolution(path: str) -> List[str]:
    """Every path that is looked up while the absolute path is resolved, up to the first that does not exist."""
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
                if links > MOST_SYMLINKS:
                    break
                waiting.extendleft(reversed(target.split('/')))
                at = '/' if target.startswith('/') else at
            elif os.path.exists(here):
                at = here
            else:
                break
    return looked_up


def place_of(directory: str) -> Place:
    """Where a directory is. Raises OSError."""
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def read(path: str) -> Optional[Text]:
    """What a file says, or why that cannot be had; None if it has gone."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return ConfigError(f'{path}: it is no regular file')
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, 'rb') as file:
            size = os.fstat(descriptor).st_size
            if size > LARGEST:
                return ConfigError(f'{path}: it has {size} bytes; allowed: {LARGEST}')
            return file.read(size + 1)  # with LARGEST each text would keep a megabyte of addresses
    except FileNotFoundError:
        return None
    except OSError as error:
        return ConfigError(f'{path}: cannot be read: {error.strerror}')


def _list(directory: str, tree: Tree, follower: Follower, real: Deque[str], linked: Deque[str]) -> None:
    """Add a directory's .twc files to the tree, and the directories in it to those that wait."""
    with os.scandir(directory) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith('.')), key=lambda entry: entry.name)
    for entry in found:
        is_link = entry.is_symlink()
        if is_link:
            follower.follow(entry.path)
        if _is_directory(entry):
            (linked if is_link else real).append(entry.path)
        elif entry.name.endswith((SUFFIX, HELPER_SUFFIX)):
            files = tree.files if entry.name.endswith(SUFFIX) else tree.helpers
            if is_link:
                tree.targets[entry.path] = os.path.realpath(entry.path)
            try:
                files[entry.path] = entry.stat()
            except FileNotFoundError:
                continue  # removed meanwhile, or a symlink to nothing
            except OSError:
                files[entry.path] = entry.stat(follow_symlinks=False)  # reading it will tell why


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symlink to itself, or to where we may not look
        return False
