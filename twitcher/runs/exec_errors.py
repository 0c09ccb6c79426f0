"""Says why a program cannot be executed, and which file or directory is missing.

execve(2) reports ENOENT as well if not the program, but its interpreter or its dynamic
loader is missing. The program may belong to any user, so only regular files are opened,
and only a few bytes of them are read.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Optional, Tuple

from twitcher.runs.posix_spawn import candidates

_MAX_INTERPRETERS = 4
"""An interpreter may be a script: BINPRM_MAX_RECURSION in linux/fs/exec.c."""
_MAX_LINE = 256
"""Bytes of the first line that the kernel reads: BINPRM_BUF_SIZE in linux/binfmts.h."""
# elf(5): the ELF header from e_ident to e_phnum, by the class of the file; and the type
# of the program header that names the loader.
_ELF_HEADERS = {1: '<16xHHIIIIIHHH', 2: '<16xHHIQQQIHHH'}
_PT_INTERP = 3


def directory_fault(path: str) -> Optional[str]:
    """Why a process cannot be started in this directory, or None."""
    try:
        handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return f'its cwd {path!r}: {os.strerror(error.errno or 0)}'
    try:
        return None if os.access(path, os.X_OK) else f'its cwd {path!r}: {os.strerror(errno.EACCES)}'
    finally:
        os.close(handle)


def reason(error: OSError, program: str, search_path: str, cwd: str = '/') -> str:
    """Why execve failed in the directory `cwd`. Names the missing file if it is not the
    program itself."""
    text = os.strerror(error.errno) if error.errno else str(error)
    if error.errno != errno.ENOENT:
        return text
    base = os.fsencode(cwd)
    path = next((path for path in candidates(program, search_path) if os.path.exists(os.path.join(base, path))), None)
    for _ in range(_MAX_INTERPRETERS):
        if path is None:
            break
        kind, path = _needed_by(os.path.join(base, path))
        if path and not os.path.exists(os.path.join(base, path)):
            return f'{text}: its {kind} {os.fsdecode(path)!r}'
    return text


def _needed_by(path: bytes) -> Tuple[str, Optional[bytes]]:
    """The other file that the kernel needs to execute this one: its kind and path."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):  # opening a device may have side effects
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
    """The loader that PT_INTERP of an ELF file in our byte order names."""
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
