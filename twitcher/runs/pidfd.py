"""Asks the kernel for the exit code of a process that is not our child.

Linux 6.15 and later reports it through a pidfd that was opened while the process
existed, once its parent has reaped it: linux/pidfd.h.
"""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Optional

_INFO_EXIT = 1 << 3
# struct pidfd_info in its first version: the mask, 13 fields that are not needed, and
# the status as wait(2) returns it.
_INFO = struct.Struct('=Q48x4xi')
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11
"""PIDFD_GET_INFO: _IOWR(0xFF, 11, struct pidfd_info), the same on all architectures."""


def exit_code(pidfd: int) -> Optional[int]:
    """The exit code, or minus the signal that killed the process; None until its parent
    has reaped it.

    Raises OSError if this kernel does not report it.
    """
    info = bytearray(_INFO.pack(_INFO_EXIT, 0))
    fcntl.ioctl(pidfd, _GET_INFO, info)
    return decoded(bytes(info))


def decoded(info: bytes) -> Optional[int]:
    """The exit code in what the kernel has filled in; None if there is none yet."""
    mask, status = _INFO.unpack(info)
    return os.waitstatus_to_exitcode(status) if mask & _INFO_EXIT else None
