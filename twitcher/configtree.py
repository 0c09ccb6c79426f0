"""What is on the disk below the configuration directory: its .twc files, its directories, and what a file says.

Names that begin with a dot are passed over, symlinks are followed, a directory is entered once. Never opens what is no
regular file: a FIFO would block, a device would never end.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Set, Tuple, Union

from twitcher.errors import ConfigError

SUFFIX = '.twc'
LARGEST = 1 << 20
"""Bytes that a .twc may have. What is larger was not written by an administrator."""

Text = Union[bytes, ConfigError]
Place = Tuple[int, int]
"""A file's device and inode."""


@dataclass
class Tree:
    """What one walk found. `hidden` are the directories that could not be read, each with the reason."""

    files: Dict[str, os.stat_result] = field(default_factory=dict)
    hidden: Dict[str, str] = field(default_factory=dict)

    def may_hold(self, path: str) -> bool:
        """Whether the path could still be there, in a directory that could not be read."""
        return any(path.startswith(directory + '/') for directory in self.hidden)


def walk(root: str, enter: Callable[[str, Place], None]) -> Tree:
    """Find every .twc file below the root.

    `enter(directory, place)` is called for each directory before it is read, and for those outside the root in which a
    symlink's file lies.
    """
    tree = Tree()
    waiting = [root]
    visited: Set[Place] = set()
    while waiting:
        directory = waiting.pop()
        try:
            status = os.stat(directory)
            place = (status.st_dev, status.st_ino)
            if stat.S_ISDIR(status.st_mode) and place not in visited:
                visited.add(place)
                enter(directory, place)
                waiting += _list(directory, tree, enter)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile: it holds nothing
        except OSError as error:
            tree.hidden[directory] = str(error.strerror)
    return tree


def place_of(directory: str) -> Place:
    """Where a directory is. Raises OSError."""
    status = os.stat(directory)
    return status.st_dev, status.st_ino


def nearest_directory(path: str) -> str:
    """The path, or the nearest directory above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def read(path: str) -> Text:
    """What a file says, or why that cannot be had."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, 'rb') as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return ConfigError(f'{path}: it is no regular file')
            if status.st_size > LARGEST:
                return ConfigError(f'{path}: it has {status.st_size} bytes; allowed: {LARGEST}')
            return file.read(LARGEST + 1)
    except OSError as error:
        return ConfigError(f'{path}: cannot be read: {error.strerror}')


def _list(directory: str, tree: Tree, enter: Callable[[str, Place], None]) -> List[str]:
    """Add a directory's .twc files to the tree; return the directories in it."""
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            if _is_directory(entry):
                below.append(entry.path)
            elif entry.name.endswith(SUFFIX):
                try:
                    tree.files[entry.path] = entry.stat()
                except FileNotFoundError:
                    continue  # removed meanwhile, or a symlink to nothing
                except OSError:
                    tree.files[entry.path] = entry.stat(follow_symlinks=False)
                    continue  # reading it will tell why
                if entry.is_symlink():
                    home = os.path.dirname(os.path.realpath(entry.path))
                    enter(home, place_of(home))
    return below


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symlink to itself, or to where we may not look
        return False
