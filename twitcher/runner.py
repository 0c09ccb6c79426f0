"""Starts runs: puts together what a child needs, notes it in the state, watches over its end, and passes on what it prints.

The order is such that the daemon may be killed at any point: the run is noted and its pipe handed over before its process
exists, so that the next daemon finds it, and its output is logged.
"""

from __future__ import annotations

import asyncio
import os
from typing import Dict, Optional

from twitcher.account import own_account
from twitcher.adopted import Adopted
from twitcher.child import Child, is_transient, spawn
from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.output import Output
from twitcher.procfs import find_leader
from twitcher.run import Run
from twitcher.spec import RunMode, WatchSpec
from twitcher.state import RunRecord, State
from twitcher.stdin import open_stdin
from twitcher.znode import Update

log = get_logger(__name__)

DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

# What a service manager says to the daemon alone: systemd.exec(5), sd_notify(3), sd_listen_fds(3).
_PRIVATE = ('NOTIFY_SOCKET', 'WATCHDOG_PID', 'WATCHDOG_USEC', 'LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'MAINPID',
            'INVOCATION_ID', 'JOURNAL_STREAM', 'SYSTEMD_EXEC_PID', 'MANAGERPID', 'PIDFILE', 'FDSTORE')


class Runner:
    """`start` is what a Watch wants to be given."""

    def __init__(self, output: Output, state: State) -> None:
        self._output = output
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
        self._environment.setdefault('PATH', DEFAULT_PATH)
        self._environment.update(own_account().environment())

    def start(self, watch: str, spec: WatchSpec, description: str, update: Update) -> Run:
        """Run the spec's action for the update; `watch` is its name in the state. Raises SpawnError: nothing has been run."""
        uid, gid = (spec.account.uid, spec.account.gid) if spec.account else (-1, -1)
        try:
            stdin = open_stdin(update.contents if spec.pipe_stdin else None, uid, gid)
        except OSError as error:
            raise SpawnError(f'no run: its stdin cannot be made: {error.strerror}', is_transient(error)) from error
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.fchown(writer, uid, gid)
        except OSError as error:
            os.close(stdin)
            raise SpawnError(f'no run: a pipe for its output cannot be made: {error.strerror}', is_transient(error)) from error
        began = self._loop.time()
        number = self._state.run_begins(watch, description, os.fstat(writer).st_ino, began, spec.timeout,
                                        has_slot=spec.run_mode is RunMode.PARALLEL)
        self._output.add_pipe(reader, description)
        try:
            child = spawn(spec, self._variables(spec, description, update), stdin, writer)
        except BaseException:
            self._state.run_failed(number)
            self._output.close_pipe(reader)
            raise
        finally:
            os.close(stdin)
            os.close(writer)
        # At once: a kill before that leaves lines without a pid in the log.
        may_print = self._output.set_pid(reader, child.pid)
        self._state.run_started(number, child.pid)
        self._state.applied(watch, update.stamp)
        log.info('%s: pid %d started (%s, version %d)', description, child.pid, update.event.value, update.version,
                 on_delivered=may_print)
        run = self._supervise(watch, number, child, description, began, spec.timeout)
        run.on_end(lambda: self._output.close_pipe(reader))
        return run

    def adopt(self, record: RunRecord) -> Optional[Run]:
        """Go on with a run that an earlier daemon has started, if it is still alive."""
        pid = record.pid or find_leader(record.pipe)
        child = Adopted(pid, record.start_time) if pid else None
        if not child or child.poll():
            self._state.run_ended(record.id, record.watch, None)
            log.info('%s: %s of an earlier daemon has ended while none was there', record.description,
                     f'pid {pid}' if pid else 'a run')
            return None
        if not record.pid:
            self._state.run_started(record.id, child.pid)
        log.info('%s: pid %d of an earlier daemon is still running', record.description, child.pid)
        return self._supervise(record.watch, record.id, child, record.description, record.began, record.timeout)

    def _supervise(self, watch: str, number: int, child: Child, description: str, began: float,
                   timeout: Optional[float]) -> Run:
        run = Run(child, description, began, timeout)
        run.on_end(lambda: self._state.run_ended(number, watch, run.exit.code if run.exit else None))
        return run

    def _variables(self, spec: WatchSpec, description: str, update: Update) -> Dict[str, str]:
        account = spec.account.environment() if spec.account else {}
        return {
            **self._environment,
            **account,
            'TWITCHER_ZNODE': spec.znode,
            'TWITCHER_EVENT': update.event.value,
            'TWITCHER_VERSION': str(update.version),
            'TWITCHER_MZXID': str(update.stamp.zxid),
            'TWITCHER_DESCRIPTION': description,
        }
