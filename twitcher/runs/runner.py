"""Starts runs: puts together what a child needs, notes it in the state, watches over its end, and passes on what it prints.

The order is such that the daemon may be killed at any point: the run is noted and its pipe handed over before its process
exists, so that the next daemon finds it, and its output is logged.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple

from twitcher.config.account import own_account
from twitcher.config.action import Exec
from twitcher.config.spec import RunMode, WatchSpec
from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.runs.child import Child, Reattached, spawn, spawn_error
from twitcher.runs.output import Output
from twitcher.runs.procfs import find_leader, is_group_left
from twitcher.runs.reminders import Reminders
from twitcher.runs.run import Run
from twitcher.runs.stdin import open_stdin
from twitcher.runs.workers import Workers
from twitcher.state import RunRecord, State
from twitcher.watches.retries import Retries
from twitcher.znode import Update

log = get_logger(__name__)

MAX_STARTING = 32
"""Programs that may be about to be executed at once, with three descriptors each: as many may hang, and hold up nobody."""
CLOSE_TIMEOUT = 0.2
"""Seconds that a stop waits for runs that are about to start."""
DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

# What a service manager says to the daemon alone: systemd.exec(5), sd_notify(3), sd_listen_fds(3).
_PRIVATE = ('NOTIFY_SOCKET', 'WATCHDOG_PID', 'WATCHDOG_USEC', 'LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'MAINPID',
            'INVOCATION_ID', 'JOURNAL_STREAM', 'SYSTEMD_EXEC_PID', 'MANAGERPID', 'PIDFILE', 'FDSTORE')


class _Launch:
    """Makes the process of a run, when called: by a thread if it is a command."""

    def __init__(self, spec: WatchSpec, environment: Dict[str, str], stdin: int, writer: int,
                 tell_pid: Callable[[int], None]) -> None:
        self.pipe = os.fstat(writer).st_ino
        self._spec = spec
        self._environment = environment
        self._descriptors = [stdin, writer]
        self._tell_pid = tell_pid

    def __call__(self) -> Child:
        child = spawn(self._spec, self._environment, *self._descriptors)
        self._tell_pid(child.pid)
        return child

    def close(self) -> None:
        """Close what only the process needs. On the loop: while a .twc file is loaded no descriptor may go away."""
        while self._descriptors:
            os.close(self._descriptors.pop())


class Runner:
    """`start` is what a Watch wants to be given. `retries` is told whenever there may be room for another run."""

    def __init__(self, output: Output, state: State, retries: Retries) -> None:
        self._output = output
        self._state = state
        self._retries = retries
        self._loop = asyncio.get_running_loop()
        self._is_closing = False
        self._workers = Workers(MAX_STARTING)
        self._reminders = Reminders(self._loop.call_later, self._loop.time)
        self._environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
        self._environment.setdefault('PATH', DEFAULT_PATH)
        self._environment.update(own_account().environment())

    async def close(self) -> None:
        """Wait for a moment until the runs that are about to start have, so that the next daemon knows their pids."""
        self._is_closing = True
        deadline = self._loop.time() + CLOSE_TIMEOUT
        while not self._workers.is_idle and self._loop.time() < deadline:
            await asyncio.sleep(CLOSE_TIMEOUT / 50)
        self._workers.drop()  # the next daemon finds that these runs have not begun, and makes them

    def start(self, watch: str, spec: WatchSpec, description: str, update: Update) -> Run:
        """Run the spec's action for the update; `watch` is its name in the state. Raises SpawnError: nothing has been run.

        A command is executed in a thread, which takes as long as its file system does; if that fails the run ends with the
        reason.
        """
        is_command = isinstance(spec.action, Exec)
        if is_command and not self._workers.has_room():
            raise SpawnError(f'no run: {MAX_STARTING} programs are still to be executed', transient=True, is_shortage=True)
        launch, reader = self._prepare(spec, description, update)
        try:
            record = self._note(watch, spec, description, launch.pipe)
            self._output.add_pipe(reader, description)
        except BaseException:
            launch.close()
            os.close(reader)
            raise
        run = self._supervise(record, update)
        run.on_end(lambda _: self._output.close_pipe(reader))
        try:
            if is_command:
                self._workers.call(launch, partial(self._launched, launch, run, record, reader, update))
            else:
                child = launch()
                launch.close()
                self._started(run, record, reader, update, child)
        except BaseException as error:
            launch.close()
            if run.pid is None:
                self._state.run_failed(record.id)
                self._output.close_pipe(reader)
                run.withdraw()
                if isinstance(error, SpawnError):
                    raise
                raise spawn_error(f'no run: {error!r}', error) from error
            log.exception('%s: pid %d has started, but not all of it was noted', description, run.pid)
        return run

    def _prepare(self, spec: WatchSpec, description: str, update: Update) -> Tuple[_Launch, int]:
        """All that the process needs, and the end of its output that is ours."""
        uid, gid = (spec.account.uid, spec.account.gid) if spec.account else (-1, -1)
        try:
            stdin = open_stdin(update.contents if spec.pipe_stdin else None, uid, gid)
        except OSError as error:
            raise spawn_error(f'no run: its stdin cannot be made: {error.strerror}', error) from error
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.fchown(writer, uid, gid)
        except OSError as error:
            os.close(stdin)
            raise spawn_error(f'no run: a pipe for its output cannot be made: {error.strerror}', error) from error
        tell_pid = partial(self._output.tell_pid, reader)
        return _Launch(spec, self._variables(spec, description, update), stdin, writer, tell_pid), reader

    def _note(self, watch: str, spec: WatchSpec, description: str, pipe: int) -> RunRecord:
        began, has_slot = self._loop.time(), spec.run_mode is RunMode.PARALLEL
        number = self._state.run_begins(watch, description, pipe, began, spec.timeout, has_slot=has_slot)
        return RunRecord(number, watch, description, pipe, began, spec.timeout, has_slot)

    def _launched(self, launch: _Launch, run: Run, record: RunRecord, reader: int, update: Update, result: Any) -> None:
        """The thread is done."""
        launch.close()
        if isinstance(result, BaseException):
            error = result if isinstance(result, SpawnError) else spawn_error(f'no run: {result!r}', result)
            run.failed(error)
        else:
            self._started(run, record, reader, update, result)

    def _started(self, run: Run, record: RunRecord, reader: int, update: Update, child: Child) -> None:
        run.started(child)  # first: whatever fails below, its end is noticed
        may_print = self._output.set_pid(reader, child.pid)  # at once: a kill before that leaves lines without a pid in the log
        self._state.run_started(record.id, child.pid)
        self._state.applied(record.watch, update.revision)
        log.info('%s: pid %d started (%s, version %d)', record.description, child.pid, update.event.value, update.version,
                 on_delivered=may_print)
        run.send_signals()
        self._retries.serve()

    def reattach(self, record: RunRecord) -> Optional[Run]:
        """Go on with a run that an earlier daemon has started, if it is still alive."""
        pid = record.pid or find_leader(record.pipe)
        child = Reattached(pid, record.start_time) if pid else None
        if child and not child.poll():
            if not record.pid:
                self._state.run_started(record.id, child.pid)
            log.info('%s: pid %d of an earlier daemon is still running', record.description, child.pid)
        elif child and record.sigterm is not None and is_group_left(child.pid, record.start_time or 0):
            log.info('%s: pid %d of an earlier daemon has ended, but its process group, which was sent SIGTERM, has not',
                     record.description, child.pid)
        else:
            self._forget(record, pid)
            return None
        run = self._supervise(record)
        run.started(child)
        run.send_signals()
        self._loop.call_soon(run.reap)  # if it has ended meanwhile, its pidfd may be another process's
        return run

    def _forget(self, record: RunRecord, pid: Optional[int]) -> None:
        log.info('%s: %s of an earlier daemon has ended while none was there', record.description,
                 f'pid {pid}' if pid else 'a run')
        if pid:
            self._state.run_ended(record.id, record.watch, None)
        else:
            self._state.run_lost(record.id, record.watch)

    def _supervise(self, record: RunRecord, update: Optional[Update] = None) -> Run:
        run = Run(record, self._reminders, partial(self._state.run_overdue, record.id), update)
        run.on_end(partial(self._ended, run, record))
        return run

    def _ended(self, run: Run, record: RunRecord, error: Optional[SpawnError]) -> None:
        if error and self._is_closing and error.transient:  # its watch is closed: the next daemon tries again
            self._state.run_lost(record.id, record.watch)
        elif error:
            self._state.run_failed(record.id)
        else:
            self._state.run_ended(record.id, record.watch, run.exit.code if run.exit else None)
            self._retries.serve()

    def _variables(self, spec: WatchSpec, description: str, update: Update) -> Dict[str, str]:
        account = spec.account.environment() if spec.account else {}
        return {
            **self._environment,
            **account,
            'TWITCHER_ZNODE': spec.znode,
            'TWITCHER_EVENT': update.event.value,
            'TWITCHER_VERSION': str(update.version),
            'TWITCHER_MZXID': str(update.revision.zxid),
            'TWITCHER_DESCRIPTION': description,
        }
