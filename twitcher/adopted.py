"""A process that an earlier daemon has started: nobody's child, told from all others by its pid and its start time."""

from __future__ import annotations

import os
from typing import Optional

from twitcher.child import Exit
from twitcher.state import start_time


class Adopted:
    """A child.Child, whose exit code can no longer be known. `started` is None if it is what runs under the pid now."""

    def __init__(self, pid: int, started: Optional[int]) -> None:
        self.pid = pid
        self._started = start_time(pid) if started is None else started

    def poll(self) -> Optional[Exit]:
        """As Child says."""
        is_alive = self._started is not None and start_time(self.pid) == self._started and not _is_zombie(self.pid)
        return None if is_alive else Exit(None)


def find_leader(pipe: int) -> Optional[int]:
    """The session leader whose stdout is the pipe with this inode: the process of a run whose pid nobody could note."""
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            if os.readlink(f'/proc/{name}/fd/1') == f'pipe:[{pipe}]' and os.getsid(int(name)) == int(name):
                return int(name)
        except OSError:
            continue  # gone meanwhile, or not ours to look into
    return None


def _is_zombie(pid: int) -> bool:
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            return file.read().rpartition(b')')[2].split()[0] == b'Z'
    except OSError:
        return False
