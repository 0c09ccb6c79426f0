"""Signals to the process group of a run, and the names of signals."""

from __future__ import annotations

import os
import signal

from twitcher.log import get_logger

log = get_logger(__name__)


def signal_group(leader: int, signum: int) -> bool:
    """Send a signal to a process group. Returns whether it exists."""
    try:
        os.killpg(leader, signum)
    except ProcessLookupError:
        return False
    except OSError as error:
        log.error('%s to process group %d failed: %s', signal_name(signum), leader, error.strerror)
    return True


def group_exists(leader: int) -> bool:
    """Whether any process is in the group, a zombie included."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it exists, but we may not signal it
        return True
    return True


def signal_name(signum: int) -> str:
    """For example SIGTERM. Real-time signals have no names."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f'signal {signum}'
