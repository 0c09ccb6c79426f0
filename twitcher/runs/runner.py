"""Starts runs in a crash-safe order: the daemon may be killed at any point.

A run is noted in the state and its output pipe handed over before its process exists,
and its pid is noted at once. So the next daemon finds the run and reattaches it, and
its output is logged, no matter when we die. The end of a run is noted before any
callback learns of it.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any, Callable, List, NamedTuple, Optional

from twitcher.config.account import own_account
from twitcher.config.action import Exec
from twitcher.config.spec import WatchSpec
from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.run_record import RunEnd, RunRecord
from twitcher.runs.child import Child, Reattached, spawn, spawn_error
from twitcher.runs.coarse_timer import CoarseTimer
from twitcher.runs.environment import Environment, SharedVariables
from twitcher.runs.output import Output
from twitcher.runs.procfs import find_session_leader, is_group_left
from twitcher.runs.run import Run
from twitcher.runs.stdin import open_stdin
from twitcher.runs.workers import Workers
from twitcher.state import State
from twitcher.znode import Update

log = get_logger(__name__)

MAX_STARTING = 32
"""Programs whose exec may be in progress at once, with three descriptors each. While
fewer hang in exec, they do not delay other runs."""
CLOSE_TIMEOUT = 0.2
"""Seconds that a stop waits for runs that are being started."""
DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

# What a service manager means for the daemon alone: systemd.exec(5), sd_notify(3),
# sd_listen_fds(3).
_PRIVATE = ('NOTIFY_SOCKET', 'WATCHDOG_PID', 'WATCHDOG_USEC', 'LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'MAINPID',
            'INVOCATION_ID', 'JOURNAL_STREAM', 'SYSTEMD_EXEC_PID', 'MANAGERPID', 'PIDFILE', 'FDSTORE')


class _Launch(NamedTuple):
    """A run whose process does not exist yet.

    `reader` is our end of its output pipe. `descriptors` are those of the process: its
    stdin, and the end that it writes to.
    """

    record: RunRecord
    update: Update
    environment: Environment
    reader: int
    descriptors: List[int]

    def close(self) -> None:
        """Close what only the process needs.

        To be called on the loop: no descriptor may disappear while a .twc file is
        loaded.
        """
        while self.descriptors:
            os.close(self.descriptors.pop())


class Runner:
    """Starts runs and reattaches those of an earlier daemon.

    `start` is what watches call. `on_room` is called whenever a run has started or
    ended, because there may be room for another one.
    """

    def __init__(self, output: Output, state: State, on_room: Callable[[], None]) -> None:
        self._output = output
        self._state = state
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._is_closing = False
        self._workers = Workers(MAX_STARTING)
        self._timer = CoarseTimer(self._loop.call_later, self._loop.time)
        inherited = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
        self._shared_variables = SharedVariables({'PATH': DEFAULT_PATH, **inherited, **own_account().environment()})

    async def close(self) -> None:
        """Wait up to CLOSE_TIMEOUT for the pids of runs that are being started."""
        self._is_closing = True
        deadline = self._loop.time() + CLOSE_TIMEOUT
        while not self._workers.is_idle and self._loop.time() < deadline:
            await asyncio.sleep(CLOSE_TIMEOUT / 50)
        self._workers.drop()  # the next daemon finds that these runs never began, and starts them

    def start(self, watch: str, spec: WatchSpec, description: str, update: Update) -> Run:
        """Run the spec's action for the update. Raises SpawnError if nothing was run.

        `watch` is the name of the watch in the state. A command is executed in a
        thread, because its exec may wait for its file system; if that fails, the run
        ends with the error.
        """
        is_command = isinstance(spec.action, Exec)
        if is_command and not self._workers.has_room():
            raise SpawnError(f'no run: {MAX_STARTING} programs are still to be executed', transient=True, is_shortage=True)
        launch = self._prepare(watch, spec, description, update)
        try:
            self._state.run_begins(launch.record)
            self._output.add_pipe(launch.reader, description)
        except BaseException:
            launch.close()
            os.close(launch.reader)
            raise
        run = self._supervise(launch.record, update)
        run.on_end(lambda _: self._output.close_pipe(launch.reader))
        try:
            if is_command:
                self._workers.call(partial(spawn, spec, launch.environment, *launch.descriptors),
                                   partial(self._tell_pid, launch), partial(self._launched, launch, run))
            else:
                child = spawn(spec, launch.environment, *launch.descriptors)
                launch.close()
                self._started(launch, run, child)
        except BaseException as error:
            launch.close()
            if run.pid is None:
                self._state.run_failed(launch.record)
                self._output.close_pipe(launch.reader)
                run.withdraw()
                if isinstance(error, SpawnError):
                    raise
                raise spawn_error(f'no run: {error!r}', error) from error
            log.exception('%s: pid %d has started, but not all of it was noted', description, run.pid)
        return run

    def _prepare(self, watch: str, spec: WatchSpec, description: str, update: Update) -> _Launch:
        """Open what the process needs, and make the record. Raises SpawnError."""
        uid, gid = (spec.account.uid, spec.account.gid) if spec.account else (-1, -1)
        try:
            stdin = open_stdin(update.stdin() if spec.pipe_stdin else None, uid, gid)
        except OSError as error:
            raise spawn_error(f'no run: its stdin cannot be made: {error.strerror}', error) from error
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            if spec.account:
                os.fchown(writer, uid, gid)
        except OSError as error:
            os.close(stdin)
            raise spawn_error(f'no run: a pipe for its output cannot be made: {error.strerror}', error) from error
        environment = self._environment(spec, description, update)
        record = RunRecord(self._state.new_run_id(), watch, description, os.fstat(writer).st_ino, self._loop.time(),
                           spec.timeout, has_slot=spec.run_mode.overlaps, grace=spec.process.grace,
                           ok_codes=spec.failure.ok_codes, lock=spec.timing.lock)
        return _Launch(record, update, environment, reader, [stdin, writer])

    def _tell_pid(self, launch: _Launch, result: Any) -> None:
        """Called on the thread that has made the process: we may die before the loop
        gets to it."""
        if not isinstance(result, BaseException):
            self._output.tell_pid(launch.reader, result.pid)

    def _launched(self, launch: _Launch, run: Run, result: Any) -> None:
        """The thread has made the process; if it could not, the result is an
        exception."""
        launch.close()
        if isinstance(result, BaseException):
            error = result if isinstance(result, SpawnError) else spawn_error(f'no run: {result!r}', result)
            run.failed(error)
        else:
            self._started(launch, run, result)

    def _started(self, launch: _Launch, run: Run, child: Child) -> None:
        run.started(child)  # first, so that its end is noticed even if something below fails
        record, update = run.record, launch.update
        may_print = self._output.set_pid(launch.reader, child.pid)  # at once: after a kill, lines would have no pid in the log
        self._state.run_started(record)
        self._state.applied(record.watch, update.revision, update.attempt)
        update.note_started()
        log.info('%s: pid %d started (%s, version %d%s)', record.description, child.pid, update.event.value, update.version,
                 f', attempt {update.attempt}' if update.attempt > 1 else '', on_delivered=may_print)
        run.send_signals()
        self._on_room()

    def reattach(self, record: RunRecord) -> Optional[Run]:
        """Supervise a run that an earlier daemon started, unless it has ended."""
        pid = record.pid or find_session_leader(record.pipe)
        child = Reattached(pid, record.start_time) if pid else None
        if child and not child.poll():
            if not record.pid:
                record = record._replace(pid=child.pid, start_time=child.start_time)
                self._state.run_started(record)
            log.info('%s: pid %d of an earlier daemon is still running', record.description, child.pid)
        elif child and record.is_being_ended and is_group_left(child.pid, record.start_time or 0):
            log.info('%s: pid %d of an earlier daemon has ended, but its process group, which %s sent SIGTERM, has not',
                     record.description, child.pid, 'will be' if record.sigterm is None else 'was')
        else:
            self._forget(record, pid)
            return None
        run = self._supervise(record)
        run.started(child)
        run.send_signals()
        self._loop.call_soon(run.reap)  # if it ended after the poll, the pidfd may be that of another process
        return run

    def _forget(self, record: RunRecord, pid: Optional[int]) -> None:
        """Note the end of a run that an earlier daemon began, and that has no
        process."""
        if pid:
            log.info('%s: pid %d, started by an earlier daemon, ended while no daemon was running', record.description, pid)
            was_terminated = record.is_being_ended and not record.is_overdue
            self._state.run_ended(record, RunEnd(is_overdue=record.is_overdue, is_terminated=was_terminated))
        else:
            log.info('%s: a run that an earlier daemon began has no process: its update is pending again', record.description)
            self._state.run_lost(record)

    def _supervise(self, record: RunRecord, update: Optional[Update] = None) -> Run:
        run = Run(record, self._timer, self._state.run_signalled, self._note_end, update)
        run.on_end(self._ended)
        return run

    def _note_end(self, record: RunRecord, end: RunEnd) -> None:
        if end.error and self._is_closing and end.error.transient:  # its watch is closed: the next daemon tries again
            self._state.run_lost(record)
        elif end.error and end.error.transient:
            self._state.run_failed(record)
        else:
            self._state.run_ended(record, end)

    def _ended(self, end: RunEnd) -> None:
        if not end.error:
            self._on_room()

    def _environment(self, spec: WatchSpec, description: str, update: Update) -> Environment:
        own = {
            **(spec.account.environment() if spec.account else {}),
            **dict(spec.process.environment),
            'TWITCHER_ZNODE': spec.znode,
            'TWITCHER_EVENT': update.event.value,
            'TWITCHER_VERSION': str(update.version),
            'TWITCHER_MZXID': str(update.revision.zxid),
            'TWITCHER_DESCRIPTION': description,
            'TWITCHER_ATTEMPT': str(update.attempt),
        }
        return Environment(own, self._shared_variables)
