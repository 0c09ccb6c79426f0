"""Says which file is missing when a program cannot be executed though it exists: its interpreter, or its dynamic loader.

execve(2) reports only ENOENT. What is read here may be anybody's file: a regular one, and
a few bytes of it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Dict, Optional, Tuple

from twitcher.runs.posix_spawn import candidates

_MAX_INTERPRETERS = 4
"""An interpreter may be a script itself: BINPRM_MAX_RECURSION in linux/fs/exec.c."""
_MAX_LINE = 256
"""How much of the first line the kernel looks at: linux/binfmts.h."""
# elf(5): e_ident, then the fields up to e_phnum; and a program header of type PT_INTERP.
_ELF_HEADERS = {1: '<16xHHIIIIIHHH', 2: '<16xHHIQQQIHHH'}
_PT_INTERP = 3


def reason(error: OSError, program: str, environment: Dict[str, str]) -> str:
    """Why execve failed: the error's text, or the name of the file that is missing."""
    text = os.strerror(error.errno) if error.errno else str(error)
    if error.errno != errno.ENOENT:
        return text
    path = next((path for path in candidates(program, environment) if os.path.exists(os.path.join(b'/', path))), None)
    for _ in range(_MAX_INTERPRETERS):
        if path is None:
            break
        kind, path = _needed_by(os.path.join(b'/', path))
        if path and not os.path.exists(os.path.join(b'/', path)):
            return f'{text}: its {kind} {os.fsdecode(path)!r}'
    return text


def _needed_by(path: bytes) -> Tuple[str, Optional[bytes]]:
    """What has to exist so that the file can be executed."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):  # to open a device may do something
                return '', None
            with open(f'/proc/self/fd/{handle}', 'rb', buffering=0) as file:
                start = file.read(_MAX_LINE)
                if start.startswith(b'#!'):
                    words = start[2:].partition(b'\n')[0].strip(b' \t').replace(b'\t', b' ').split(b' ', 1)
                    return 'interpreter', words[0] or None
                if start.startswith(b'\x7fELF'):
                    return 'dynamic loader', _loader(file.fileno(), start)
        finally:
            os.close(handle)
    except (OSError, struct.error):
        return '', None
    return '', None


def _loader(descriptor: int, start: bytes) -> Optional[bytes]:
    """The file that an ELF file of this machine's byte order names in PT_INTERP."""
    is_64 = start[4] == 2
    fields = struct.unpack_from(_ELF_HEADERS[2 if is_64 else 1], start)
    offset, size, count = fields[4], fields[8], fields[9]
    headers = os.pread(descriptor, min(size * count, 65536), offset)
    for at in range(0, len(headers), size or 1):
        if struct.unpack_from('=I', headers, at)[0] == _PT_INTERP:
            where, length = (struct.unpack_from('=QxxxxxxxxxxxxxxxxQ', headers, at + 8) if is_64
                             else struct.unpack_from('=IxxxxxxxxI', headers, at + 4))
            return os.pread(descriptor, min(length, 4096), where).rstrip(b'\0')
    return None
