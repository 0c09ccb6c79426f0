"""Facts about the machine and its processes from /proc: proc(5)."""

from __future__ import annotations

import os
from typing import List, NamedTuple, Optional


def start_time(pid: int) -> Optional[int]:
    """When a process was started, in clock ticks since the boot; None if it is gone.

    Together with the pid it identifies a process until the next boot.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def is_running(pid: int, started: int) -> bool:
    """Whether the process with this pid and start time is running.

    If its main thread has ended and others have not, the state is Z (zombie), and the
    number of threads is more than one.
    """
    fields = _stat(pid)
    return bool(fields) and int(fields[19]) == started and (fields[0] not in (b'Z', b'X') or int(fields[17]) > 1)


class SignalMasks(NamedTuple):
    """The signal masks of a process: bit N - 1 is for signal N.

    `blocked` is the mask of its main thread.
    """

    caught: int
    blocked: int
    ignored: int

    def is_caught(self, signum: int) -> bool:
        """Whether the process has a handler for it."""
        return bool(self.caught >> (signum - 1) & 1)

    def is_blocked(self, signum: int) -> bool:
        """Whether it stays pending until the process reads or unblocks it."""
        return bool(self.blocked >> (signum - 1) & 1)

    def is_ignored(self, signum: int) -> bool:
        """Whether the kernel drops it."""
        return bool(self.ignored >> (signum - 1) & 1)


def signal_masks(pid: int) -> SignalMasks:
    """The signal masks of a process; if unknown, it is assumed to catch all signals."""
    try:
        with open(f'/proc/{pid}/status', 'rb') as file:
            fields = dict(line.split(b':', 1) for line in file.read().splitlines())
        return SignalMasks(*(int(fields[name], 16) for name in (b'SigCgt', b'SigBlk', b'SigIgn')))
    except (OSError, KeyError, ValueError):
        return SignalMasks(-1, 0, 0)


def is_group_left(leader: int, started: int) -> bool:
    """Whether a leader started at that time has ended, but not all of its group.

    The kernel does not give a pid away again as long as a process is in the group of
    that number.
    """
    members = [int(name) for name in filter(str.isdigit, os.listdir('/proc')) if _is_member(int(name), leader, started)]
    return bool(members) and leader not in members


def _is_member(pid: int, leader: int, started: int) -> bool:
    """Whether the process runs in the leader's session and group, and is no older."""
    fields = _stat(pid)
    if not fields or not int(fields[2]) == int(fields[3]) == leader:
        return False
    return int(fields[19]) >= started and is_running(pid, int(fields[19]))


def find_session_leader(stdout_inode: int) -> Optional[int]:
    """The pid of the session leader whose stdout is the pipe with this inode.

    This finds the process of a run whose daemon was killed before it had noted the pid.
    """
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            if os.readlink(f'/proc/{name}/fd/1') == f'pipe:[{stdout_inode}]' and os.getsid(int(name)) == int(name):
                return int(name)
        except OSError:
            continue  # it has ended, or we may not read its links
    return None


def boot_id() -> str:
    """The random number of this boot: random(4). Empty if it cannot be read."""
    try:
        with open('/proc/sys/kernel/random/boot_id') as file:
            return file.read().strip()
    except OSError:
        return ''


def machine_id() -> str:
    """Identifies this boot of the machine, or this start of our container.

    A restarted container has the boot id of its host, but another process 1, at whose
    end the kernel kills all other processes of the container: pid_namespaces(7).
    """
    return f'{boot_id()} {start_time(1) or ""}'.strip()


def _stat(pid: int) -> List[bytes]:
    """The fields of /proc/PID/stat behind the second, which may contain anything."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            return file.read().rpartition(b')')[2].split()
    except OSError:
        return []
