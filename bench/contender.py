"""A contender: a program that runs a command when a znode changes.

To add one, write a module like those in `contenders`, with a class that says how to
start it, and name the class in the benchmarks in which it takes part.
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence


@dataclass(frozen=True)
class Job:
    """A contender's job: run `command` for each of the `znodes`, with the contents on
    its stdin.

    `directory` is its own, and empty. `files` is the number of config files to spread
    the znodes over, if the contender has any; `syslog` is the socket of a syslog
    server; `tools` is the directory of the compiled programs.
    """

    hosts: str
    znodes: Sequence[str]
    command: Sequence[str]
    directory: Path
    syslog: Path
    tools: Path
    run_on_load: bool = False
    files: int = 1

    @property
    def python(self) -> str:
        """An interpreter that finds Twitcher's libraries, and no others."""
        return str(self.tools / 'venv' / 'bin' / 'python')

    def list_of_znodes(self) -> Path:
        """Write a file with one znode per line. Returns its path."""
        path = self.directory / 'znodes'
        path.write_text(''.join(f'{znode}\n' for znode in self.znodes))
        return path


class Contender:
    """One process that does a Job. `store` is what it watches: `zookeeper` or
    `etcd`."""

    name = ''
    store = 'zookeeper'

    def __init__(self) -> None:
        self._process: Optional[subprocess.Popen[bytes]] = None

    def limitation(self) -> str:
        """Why it cannot take part on this machine; empty if it can."""
        return ''

    def prepare(self, job: Job) -> List[str]:
        """Write what it needs into the job's directory. Returns the command line that
        starts it in the foreground."""
        raise NotImplementedError

    def start(self, job: Job) -> None:
        """Start it; it need not be ready when this returns."""
        self.launch(self.prepare(job), job)

    def launch(self, argv: Sequence[str], job: Job) -> None:
        """The second half of `start`, for benchmarks that do not count the time of the
        first."""
        with (job.directory / 'stdio').open('ab') as stdio:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdio, stderr=stdio, cwd='/',
                                             start_new_session=True)

    @property
    def pid(self) -> int:
        """The pid of the process whose memory and time count."""
        assert self._process
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        if self._process and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
