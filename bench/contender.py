"""What a contender is: something that runs a command when a znode changes. To add one, write a module like those in
`contenders` with a class that says how it is started, and name it where it is to take part."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence


@dataclass(frozen=True)
class Job:
    """What a contender is to do: run `command` for each of the `znodes`, with the contents on its stdin.

    `directory` is its own, and empty. `files` is over how many config files the znodes are to be spread, where that means
    something; `syslog` the socket of a syslog server; `tools` where the compiled programs are, and `python` an interpreter
    that finds Twitcher's libraries, and has nothing else in its way.
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
        """See above."""
        return str(self.tools / 'venv' / 'bin' / 'python')

    def list_of_znodes(self) -> Path:
        """A file with a znode a line, written now."""
        path = self.directory / 'znodes'
        path.write_text(''.join(f'{znode}\n' for znode in self.znodes))
        return path


class Contender:
    """One process that does a Job. `store` is what it watches: `zookeeper` or `etcd`."""

    name = ''
    store = 'zookeeper'

    def __init__(self) -> None:
        self._process: Optional[subprocess.Popen[bytes]] = None

    def shortcoming(self) -> str:
        """Why it cannot take part on this machine, or nothing."""
        return ''

    def prepare(self, job: Job) -> List[str]:
        """Write what it needs into the job's directory; the command line that starts it in the foreground."""
        raise NotImplementedError

    def start(self, job: Job) -> None:
        """Start it; it need not be ready when this returns."""
        self.launch(self.prepare(job), job)

    def launch(self, argv: Sequence[str], job: Job) -> None:
        """Only the second half of `start`, where the first one's time is not to be counted."""
        with (job.directory / 'stdio').open('ab') as stdio:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdio, stderr=stdio, cwd='/',
                                             start_new_session=True)

    @property
    def pid(self) -> int:
        """Of the process whose memory and time count."""
        assert self._process
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End it, and wait for that."""
        if self._process and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
