"""Mounts: which directories lie on file systems where inotify misses changes, and when
a file system is mounted or unmounted.

inotify reports only changes that are made through this kernel's names: none by another
machine, by a server behind FUSE or in the lower layer of an overlay. A mount changes a
tree without any event in it.
"""

from __future__ import annotations

import asyncio
import os
import select
from typing import Callable, Dict, Set

from twitcher.config.scan import Dependencies, FileId, file_id, is_config
from twitcher.descriptors import NEEDED

TABLE = '/proc/self/mountinfo'
"""proc_pid_mountinfo(5)."""

SILENT = {
    '9p', 'acfs', 'afs', 'aufs', 'beegfs', 'ceph', 'cifs', 'coda', 'ecryptfs', 'fhgfs', 'fuse', 'gfs', 'gfs2',
    'gpfs', 'kafs', 'lustre', 'ncpfs', 'nfs', 'nfs4', 'ocfs2', 'orangefs', 'overlay', 'panfs', 'prl_fs', 'pvfs2', 'smb3',
    'smbfs', 'unionfs', 'vboxsf', 'virtiofs', 'vmhgfs', 'wekafs',
}
"""Types of file systems on which inotify is silent about some changes: those of a
network, a cluster or a virtual machine's host, and those that lie over another one.
`fuse` stands for every `fuse.NAME`, since what is behind it is not known."""


class Mounts:
    """The mounts of this process. Calls `on_change` when something is mounted or
    unmounted, with True if it was a .twc file. Raises OSError without /proc.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_change: Callable[[bool], None]) -> None:
        self._loop = loop
        self._on_change = on_change
        self._types: Dict[int, str] = {}
        self.mounted_files: Set[FileId] = set()
        """The .twc files that are mounts of their own. Their events are reported for
        the directory that they were mounted from."""
        self._type_of_device: Dict[int, str] = {}
        self._table = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
        NEEDED.add(self._table)
        # The kernel reports a change as POLLPRI, which asyncio cannot wait for; the
        # table is always readable. So the loop watches an epoll descriptor instead.
        self._changes = select.epoll()
        self._changes.register(self._table, select.EPOLLPRI)
        loop.add_reader(self._changes.fileno(), self._changed)
        self._read()

    def silent(self, dependencies: Dependencies) -> Dict[FileId, str]:
        """The listed directories on which inotify is silent about some changes, with
        the types of their file systems."""
        found = {}
        for path, directory in dependencies.directories.items():
            if directory in dependencies.listed and directory not in found:
                kind = self._type_of(path, directory[0])
                if kind.partition('.')[0] in SILENT:
                    found[directory] = kind
        return found

    def stop(self) -> None:
        """Stop following the mounts."""
        self._loop.remove_reader(self._changes.fileno())
        self._changes.close()
        NEEDED.discard(self._table)
        os.close(self._table)

    def _changed(self) -> None:
        self._changes.poll(0)
        before = set(self.mounted_files)
        self._read()
        self._on_change(self.mounted_files != before)

    def _read(self) -> None:
        self._types.clear()
        self._type_of_device.clear()
        self.mounted_files.clear()
        os.lseek(self._table, 0, os.SEEK_SET)
        with open(self._table, 'rb', closefd=False) as file:
            for line in file:
                mount_id, _, _, _, point, *rest = line.split()
                self._types[int(mount_id)] = os.fsdecode(rest[rest.index(b'-') + 1])
                if is_config(os.fsdecode(point)):
                    self._note_file(os.fsdecode(point.decode('unicode_escape').encode('latin-1')))

    def _note_file(self, point: str) -> None:
        try:
            if not os.path.isdir(point):
                self.mounted_files.add(file_id(point))
        except OSError:
            return  # unmounted since then, which is the next change

    def _type_of(self, directory: str, device: int) -> str:
        """The type of the file system that a directory is on; empty if it cannot be
        found."""
        if device not in self._type_of_device:
            try:
                descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)  # type: ignore[attr-defined, unused-ignore]
                try:
                    with open(f'/proc/self/fdinfo/{descriptor}', encoding='ascii') as file:
                        fields = dict(line.split(':', 1) for line in file if ':' in line)
                finally:
                    os.close(descriptor)
                self._type_of_device[device] = self._types[int(fields['mnt_id'])]
            except (OSError, KeyError):
                return ''
        return self._type_of_device[device]
