"""A daemon under test: its configs, its log and the runs of its actions."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import textwrap
import uuid
from datetime import datetime
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from tests.support.ensemble import Ensemble
from tests.support.processes import command_line, is_action, is_alive
from tests.support.programs import command
from tests.support.waiting import PATIENCE, Trace, wait_for

DIRECTORY_VARIABLE = 'TEST_DIRECTORY'
"""The variable by which what a daemon's actions left is found."""


class Twitcher:
    """A twitcher daemon under test. Everything that it starts is ended by `close`.

    It logs to a file. `options` are added to the command line, `environment` to the variables.
    """

    FENCE = '/fence'

    def __init__(self, directory: Path, hosts: str) -> None:
        self.directory = directory
        self.hosts = hosts
        self.configs = directory / 'etc'
        self.configs.mkdir(exist_ok=True)
        self.log_path = directory / 'log'
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.detached = 0
        self._fence = Trace(directory / 'fence')

    def config(self, name: str, text: str) -> Path:
        """Write a .twc file, at once, as an editor does that renames."""
        path = self.configs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name('.new')
        new.write_text(textwrap.dedent(text))
        new.rename(path)
        return path

    def start(self, *options: str, wait: bool = True, environment: Optional[Dict[str, str]] = None,
              wrapper: List[str] = [],  # noqa: B006  # it is only read
              log_to: Optional[Sequence[str]] = None) -> Twitcher:
        """Start it, and wait until it has read its configs and reached ZooKeeper.

        `log_to` are options to use instead of --logfile; then there is no log to wait for.
        """
        seen = len(self.log())
        stdio = (self.directory / 'stdio').open('ab')
        with stdio:
            self.process = subprocess.Popen(
                [*wrapper, *command('twitcher', '--zkservers', self.hosts, '--config_path', self.configs,
                                    *(('--logfile', self.log_path) if log_to is None else log_to),
                                    '--state_dir', self.directory / 'state', *options)],
                stdin=subprocess.DEVNULL, stdout=stdio, stderr=stdio,
                env={**os.environ, DIRECTORY_VARIABLE: str(self.directory), **(environment or {})},
                start_new_session=True)
        if wait and log_to is None:
            self.wait_log('ZooKeeper: connected', after=seen)
        return self

    def detach(self, *options: str, wrapper: List[str] = [],  # noqa: B006  # it is only read
               log_to: Optional[Sequence[str]] = None) -> int:
        """Start it with --daemonize and a pidfile, and wait for the parent's end. Returns the daemon's pid."""
        self.start('--daemonize', '--pidfile', str(self.pidfile), *options, wrapper=wrapper, log_to=log_to, wait=False)
        assert self.process
        assert self.process.wait(PATIENCE) == 0, self.stdio()
        self.detached = wait_for('the pidfile', lambda: self.pidfile.exists() and int(self.pidfile.read_text() or 0))
        return self.detached

    @property
    def pidfile(self) -> Path:
        """What `detach` gives as --pidfile."""
        return self.directory / 'pid'

    def stdio(self) -> str:
        """What the daemon wrote to stdout and stderr."""
        return (self.directory / 'stdio').read_text(errors='surrogateescape')

    @property
    def pid(self) -> int:
        """The daemon's pid."""
        assert self.process
        return self.process.pid

    def log(self) -> str:
        """The log so far."""
        return self.log_path.read_text(errors='surrogateescape') if self.log_path.exists() else ''

    def log_lines(self, pattern: str) -> List[str]:
        """The lines of the log in which the regular expression is found."""
        return [line for line in self.log().splitlines() if re.search(pattern, line)]

    def wait_log(self, pattern: str, count: int = 1, after: int = 0) -> List[re.Match[str]]:
        """The matches of the regular expression, as soon as there are `count`, in the log after so many characters."""
        def found() -> List[re.Match[str]]:
            return list(re.finditer(pattern, self.log()[after:], re.MULTILINE))

        self._wait_for(f'{count} x {pattern!r} in the log', lambda: len(found()) >= count)
        return found()

    def _wait_for(self, what: str, probe: Callable[[], bool]) -> None:
        """As `wait_for`, but fail with the log and stdio, and at once if the daemon is dead and no test has killed it.

        A daemon that exited 0 or was killed by SIGKILL is taken to have ended as the test
        meant it to: what its actions print is still logged.
        """
        def probe_unless_dead() -> bool:
            code = self.process.poll() if self.process else None  # before the probe: it may log until its end
            is_so = probe()
            assert is_so or code in (None, 0, -signal.SIGKILL), f'the daemon exited {code} before {what}'
            return is_so

        try:
            wait_for(what, probe_unless_dead)
        except AssertionError as error:
            stdio = self.stdio() if (self.directory / 'stdio').exists() else ''
            raise AssertionError(f'{error}; the log: {self.log()[-6000:]}\nstdio: {stdio[-2000:]}') from None

    def fence(self, ensemble: Ensemble) -> None:
        """Return when the daemon has seen everything that happened in ZooKeeper so far.

        It adds a config of its own the first time, and then changes a znode: updates are
        handled in order, so what has not run when this one has will not run. For changes of
        config files, see tests.support.configs.fence.
        """
        path = self.configs / 'fence.twc'
        if not path.exists():
            self.config('fence.twc', f"RegisterWatch('{self.FENCE}', Exec('echo `cat` >> {self._fence}'), "
                                     "run_mode=PARALLEL)")
            self.wait_log(r'fence\.twc: loaded')
        token = uuid.uuid4().hex
        ensemble.put(self.FENCE, token)
        self._fence.wait_for_line(token)
        if self.log_path.exists():  # which is written a moment later, but in order
            wait_for('the log of the fence', lambda: len(self.started('fence.twc')) >= len(self._fence.lines()))

    def started(self, description: str) -> List[int]:
        """The pids of all runs of the watch so far."""
        pattern = rf': {re.escape(description)}: pid (\d+) started'
        return [int(match[1]) for match in re.finditer(pattern, self.log())]

    def wait_started(self, description: str, count: int = 1) -> List[int]:
        """The pids of all runs of the watch so far, as soon as there are `count` of them or more."""
        self._wait_for(f'{count} runs of {description}', lambda: len(self.started(description)) >= count)
        return self.started(description)

    def ended(self, description: str) -> List[str]:
        """How the runs of the watch have ended so far, such as 'exited 0' or 'was killed by SIGTERM'."""
        pattern = rf': {re.escape(description)}: pid \d+ (exited \d+|was killed by .+) after [\d.]+ s$'
        return [match[1] for match in re.finditer(pattern, self.log(), re.MULTILINE)]

    def printed(self, description: str) -> List[str]:
        """The lines that runs of the watch have printed, as the log has them."""
        pattern = rf'^\S+ \S+ twitcher\[\d+\] INFO: {re.escape(description)}\[\d+\]: (.*)$'
        return re.findall(pattern, self.log(), re.MULTILINE)

    def wait_printed(self, description: str, count: int) -> List[str]:
        """The lines that runs of the watch have printed, as soon as there are `count` of them or more."""
        self._wait_for(f'{count} lines of {description}', lambda: len(self.printed(description)) >= count)
        return self.printed(description)

    def wait_ended(self, description: str, count: int = 1) -> List[str]:
        """How runs of the watch have ended, as soon as `count` or more have."""
        self._wait_for(f'{count} ended runs of {description}', lambda: len(self.ended(description)) >= count)
        return self.ended(description)

    def wait_end_line(self, description: str) -> re.Match[str]:
        """The line of the first end of a run of the watch; its groups are the pid, how it ended and its seconds."""
        return self.wait_log(rf'{re.escape(description)}: pid (\d+) (exited \d+|was killed by SIG\w+) after ([\d.]+) s$')[0]

    def log_times(self, pattern: str) -> List[float]:
        """When each line of the log in which the regular expression is found was made, in seconds."""
        return [datetime.strptime(' '.join(line.split()[:2]), '%Y-%m-%d %H:%M:%S.%f').timestamp()
                for line in self.log_lines(pattern)]

    def seconds_between(self, first: str, second: str) -> float:
        """How long after the first line that matches the one regular expression the first that matches the other came.

        What the log says of itself does not depend on when the test comes to look.
        """
        self.wait_log(first)
        self.wait_log(second)
        return self.log_times(second)[0] - self.log_times(first)[0]

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process
        self.process.kill()
        self.process.wait(PATIENCE)

    def close(self) -> None:
        """End the daemon and all that its actions left."""
        if self.process and self.process.poll() is None:
            self.kill()
        if self.detached and str(self.configs) in command_line(self.detached):
            os.kill(self.detached, signal.SIGKILL)
        for match in re.finditer(r': pid (\d+) started', self.log()):
            if self._may_be_ours(int(match[1])):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(int(match[1]), signal.SIGKILL)
        for path in Path('/proc').glob('[0-9]*'):  # a run whose start the daemon has not come to log
            if is_action(int(path.name), {DIRECTORY_VARIABLE: str(self.directory)}):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.name), signal.SIGKILL)

    def _may_be_ours(self, pid: int) -> bool:
        """Whether the process is an action, and not one of another test that has got the pid since: the kernel gives each away
        again after some minutes. A function's process has the daemon's command line."""
        # One that has ended may have left others of its group.
        return not is_alive(pid) or is_action(pid) or str(self.configs) in command_line(pid)


NewDaemon = Callable[[str], Twitcher]


def open_pipes(twitcher: Twitcher) -> List[str]:
    """The pipes that the daemon's twitcher-output has still to read."""
    found = []
    for pid in Path(f'/proc/{twitcher.pid}/task/{twitcher.pid}/children').read_text().split():
        with contextlib.suppress(FileNotFoundError):
            if Path(f'/proc/{pid}/comm').read_text().strip() == 'twitcher-output':
                found += [os.readlink(path) for path in Path(f'/proc/{pid}/fd').iterdir()]
    return [name for name in found if name.startswith('pipe:')]


def outcomes(twitcher: Twitcher, ensemble: Ensemble, functions: str, contents: bytes = b'') -> Dict[str, Tuple[str, List[str]]]:
    """Run every function that the text defines at its top level; how each ended, and the lines that it printed.

    It starts the daemon, and there must be no other watch yet.
    """
    text = textwrap.dedent(functions)
    names = [line[4:line.index('(')] for line in text.splitlines() if line.startswith('def ')]
    for name in names:
        text += f"RegisterWatch('/a', {name}, description='{name}')\n"
    twitcher.config('a.twc', text)
    ensemble.put('/a', contents)
    twitcher.start()
    ends = {name: twitcher.wait_ended(name)[0] for name in names}
    # One process takes the pipes of all runs in the order in which they started, and writes what it reads in the order in which
    # it has read it. So when a later run has printed, all pipes were taken; once these have been read to their end, what
    # the next run prints stands behind all that they held.
    twitcher.config('last.twc', "RegisterWatch('/last', Exec('cat'), description='last')")
    ensemble.put('/last', 'taken\n')
    twitcher.wait_printed('last', 1)
    wait_for('the output to be read', lambda: not open_pipes(twitcher))
    ensemble.put('/last', 'read\n')
    twitcher.wait_printed('last', 2)
    return {name: (ends[name], twitcher.printed(name)) for name in names}
