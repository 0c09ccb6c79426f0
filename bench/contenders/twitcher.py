"""Twitcher itself, from this checkout, logging to syslog as in production."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Sequence

from bench.contender import Contender, Job

TOP = Path(__file__).resolve().parent.parent.parent

_FUNCTION = '''\
import os, struct, time
def stamp():
    now = time.monotonic_ns()
    fifo = os.open(COMMAND[1], os.O_WRONLY)
    os.write(fifo, struct.pack('=q', now))
'''


class Twitcher(Contender):
    """One daemon. `action` and `extra` are inserted into RegisterWatch, and `before` in
    front of it; in all of them COMMAND is the job's command."""

    def __init__(self, kind: str = 'Exec list', action: str = 'Exec(COMMAND)', extra: str = '', before: str = '') -> None:
        super().__init__()
        self.name = f'Twitcher, {kind}'
        self._action = action
        self._extra = extra
        self._before = before

    def prepare(self, job: Job) -> List[str]:
        """As Contender says."""
        configs = job.directory / 'etc'
        configs.mkdir()
        for number in range(job.files):
            self.write_config(configs / f'{number}.twc', job.znodes[number::job.files], job.command, job.run_on_load)
        # The limit of descriptors that a service manager or a login sets.
        return ['prlimit', '--nofile=1024:', job.python, str(TOP / 'bin' / 'twitcher'), '--zkservers', job.hosts,
                '--config_path', str(configs), '--state_dir', str(job.directory / 'state'), '--syslog_socket', str(job.syslog)]

    def write_config(self, path: Path, znodes: Sequence[str], command: Sequence[str], run_on_load: bool) -> None:
        """Write a .twc file, and move it into place atomically."""
        new = path.with_name('.new')
        new.write_text(f'COMMAND = {list(command)!r}\n{self._before}'
                       f'for znode in {list(znodes)!r}:\n'
                       f'    RegisterWatch(znode, {self._action}, run_on_load={run_on_load}{self._extra})\n')
        new.rename(path)


def exec_string() -> Twitcher:
    """The command through a shell."""
    return Twitcher('Exec string', "Exec(' '.join(COMMAND))")


def with_uid(kind: str = 'uid=') -> Twitcher:
    """The command as another user."""
    return _AsRoot(kind, extra=", uid='nobody'")


def function() -> Twitcher:
    """A Python function, which stamps with its first instruction."""
    return Twitcher('function', 'stamp', before=_FUNCTION)


class _AsRoot(Twitcher):
    def limitation(self) -> str:
        """As Contender says."""
        return '' if os.geteuid() == 0 else 'only root may run actions as another user'
