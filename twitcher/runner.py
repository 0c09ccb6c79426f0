"""Starts runs: puts together what a child needs, watches over its end, and passes on what it prints."""

from __future__ import annotations

import logging
import os
from typing import Dict

from twitcher.account import own_account
from twitcher.child import spawn
from twitcher.errors import SpawnError
from twitcher.output import Output
from twitcher.run import Run
from twitcher.spec import WatchSpec
from twitcher.stdin import open_stdin
from twitcher.znode import Update

log = logging.getLogger(__name__)

DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

# What a service manager says to the daemon alone: systemd.exec(5), sd_notify(3), sd_listen_fds(3).
_PRIVATE = ('NOTIFY_SOCKET', 'WATCHDOG_PID', 'WATCHDOG_USEC', 'LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES', 'MAINPID',
            'INVOCATION_ID', 'JOURNAL_STREAM', 'SYSTEMD_EXEC_PID', 'MANAGERPID', 'PIDFILE', 'FDSTORE')


class Runner:
    """`start` is what a Watch wants to be given."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._environment = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
        self._environment.setdefault('PATH', DEFAULT_PATH)
        self._environment.update(own_account().environment())

    def start(self, spec: WatchSpec, update: Update) -> Run:
        """Run the spec's action for the update. Raises SpawnError; then nothing has been run."""
        uid, gid = (spec.account.uid, spec.account.gid) if spec.account else (-1, -1)
        try:
            stdin = open_stdin(update.contents if spec.pipe_stdin else None, uid, gid)
        except OSError as error:
            raise SpawnError(f'no run: its stdin cannot be made: {error.strerror}', transient=True) from error
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            os.close(stdin)
            raise SpawnError(f'no run: a pipe for its output cannot be made: {error.strerror}', transient=True) from error
        try:
            os.fchown(writer, uid, gid)
            child = spawn(spec, self._variables(spec, update), stdin, writer)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(stdin)
            os.close(writer)
        log.info('%s: pid %d started (%s, version %d)', spec.description, child.pid, update.event.value, update.version)
        run = Run(child, spec.description, spec.timeout)
        self._output.attach(reader, spec.description, child.pid)
        run.on_end(lambda: self._output.release(reader))
        return run

    def _variables(self, spec: WatchSpec, update: Update) -> Dict[str, str]:
        account = spec.account.environment() if spec.account else {}
        return {
            **self._environment,
            **account,
            'TWITCHER_ZNODE': spec.znode,
            'TWITCHER_EVENT': update.event.value,
            'TWITCHER_VERSION': str(update.version),
            'TWITCHER_MZXID': str(update.zxid),
            'TWITCHER_DESCRIPTION': spec.description,
        }
