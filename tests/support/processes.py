"""What /proc says of a process."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Dict, List, Mapping, Optional


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def process_status(pid: int) -> Dict[str, str]:
    """The fields of /proc/PID/status."""
    pairs = (line.split(':', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines())
    return {name: value.strip() for name, value in pairs}


def signals_in(mask: str) -> List[int]:
    """The signals of a mask, as /proc/PID/status has it, less two that the C library keeps for itself.

    It lets every process that posix_spawn(3) starts ignore these, and nobody can undo that.
    """
    return [number for number in sorted(signal.valid_signals()) if int(mask, 16) >> (number - 1) & 1]


def command_line(pid: int) -> str:
    """The process's arguments; nothing when it is gone."""
    try:
        return Path(f'/proc/{pid}/cmdline').read_text(errors='surrogateescape')
    except (FileNotFoundError, ProcessLookupError):
        return ''


def is_action(pid: int, variables: Optional[Mapping[str, str]] = None) -> bool:
    """Whether the process is a command that some twitcher has run, with these variables."""
    try:
        environment = Path(f'/proc/{pid}/environ').read_bytes().split(b'\0')
    except OSError:
        return False
    wanted = {os.fsencode(f'{name}={value}') for name, value in (variables or {}).items()}
    return wanted.issubset(environment) and any(word.startswith(b'TWITCHER_DESCRIPTION=') for word in environment)


def group_members(group: int) -> List[int]:
    """The pids of a process group that are no zombies."""
    found = []
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            state, _, its_group = Path(f'/proc/{name}/stat').read_text().rpartition(')')[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(its_group) == group and state != 'Z':
            found.append(int(name))
    return found
