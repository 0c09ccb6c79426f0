"""What /proc tells about the machine and its processes: proc(5)."""

from __future__ import annotations

import os
from typing import List, NamedTuple, Optional


def start_time(pid: int) -> Optional[int]:
    """When a process was started, in clock ticks since the boot: with its pid, its name for all time. None if there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def is_running(pid: int, started: int) -> bool:
    """Whether the process with this pid and start time goes on.

    One whose main thread has ended is a zombie while its other threads go on: the state
    is Z, and the number of threads more than one.
    """
    fields = _stat(pid)
    return bool(fields) and int(fields[19]) == started and (fields[0] not in (b'Z', b'X') or int(fields[17]) > 1)


class SignalMasks(NamedTuple):
    """What a process does with signals; a signal's bit is its number less one. `blocked` are those of its main thread."""

    caught: int
    blocked: int
    ignored: int

    def is_caught(self, signum: int) -> bool:
        """Whether it has a handler."""
        return bool(self.caught >> (signum - 1) & 1)

    def is_blocked(self, signum: int) -> bool:
        """Whether it stays pending until it is read, or unblocked."""
        return bool(self.blocked >> (signum - 1) & 1)

    def is_ignored(self, signum: int) -> bool:
        """Whether it is dropped."""
        return bool(self.ignored >> (signum - 1) & 1)


def signal_masks(pid: int) -> SignalMasks:
    """What a process does with signals. One that cannot be looked into is taken to catch them all."""
    try:
        with open(f'/proc/{pid}/status', 'rb') as file:
            fields = dict(line.split(b':', 1) for line in file.read().splitlines())
        return SignalMasks(*(int(fields[name], 16) for name in (b'SigCgt', b'SigBlk', b'SigIgn')))
    except (OSError, KeyError, ValueError):
        return SignalMasks(-1, 0, 0)


def is_group_left(leader: int, started: int) -> bool:
    """Whether a process goes on in the session and group of a leader that has ended, which was started then.

    The kernel gives a pid away again only when no process is in its group any more.
    """
    members = [int(name) for name in filter(str.isdigit, os.listdir('/proc')) if _is_member(int(name), leader, started)]
    return bool(members) and leader not in members


def _is_member(pid: int, leader: int, started: int) -> bool:
    """Whether the process goes on, in this session and group, and was not started before the group was."""
    fields = _stat(pid)
    if not fields or not int(fields[2]) == int(fields[3]) == leader:
        return False
    return int(fields[19]) >= started and is_running(pid, int(fields[19]))


def find_leader(pipe: int) -> Optional[int]:
    """The session leader whose stdout is the pipe with this inode: the process of a run whose pid nobody could note."""
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            if os.readlink(f'/proc/{name}/fd/1') == f'pipe:[{pipe}]' and os.getsid(int(name)) == int(name):
                return int(name)
        except OSError:
            continue  # gone meanwhile, or not ours to look into
    return None


def boot_id() -> str:
    """What tells this boot of the machine from all others: random(4). Empty where it is not known."""
    try:
        with open('/proc/sys/kernel/random/boot_id') as file:
            return file.read().strip()
    except OSError:
        return ''


def machine_id() -> str:
    """What tells one life of the machine, or of the container that we are in, from all others.

    A container that is started again has the boot id of its host, but another process 1; when that ends, all others of
    the container do. pid_namespaces(7).
    """
    return f'{boot_id()} {start_time(1) or ""}'.strip()


def _stat(pid: int) -> List[bytes]:
    """The fields of /proc/PID/stat from the third on, behind the name, which may hold anything."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            return file.read().rpartition(b')')[2].split()
    except OSError:
        return []
