"""Builds the daemon's parts and connects them; owns the event loop and the signals.

Only this module knows both files and ZooKeeper, and both watches and runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any, Dict, NamedTuple, Optional

from twitcher.config.directory import Changes, ConfigDir
from twitcher.config.loader import Loader
from twitcher.lock import StateLock
from twitcher.log import get_logger
from twitcher.log_target import LogTarget, escaped
from twitcher.runs.output import Output
from twitcher.runs.procfs import machine_id
from twitcher.runs.runner import Runner
from twitcher.sd_notify import Notifier
from twitcher.state import State
from twitcher.watches.backlog import Backlog
from twitcher.watches.context import WatchContext
from twitcher.watches.policies import Policies
from twitcher.watches.registry import Watches
from twitcher.watches.retries import Retries
from twitcher.watches.timing import Machine
from twitcher.watches.turns import Slots
from twitcher.zookeeper.ensemble import Ensemble
from twitcher.zookeeper.session import Session
from twitcher.zookeeper.subscriptions import Subscriptions

log = get_logger(__name__)

HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""The caller of run_daemon must have blocked these, so that before the loop runs none
is lost or ends the process."""
CLOSE_TIMEOUT = 0.5
"""Seconds that a stop waits for ZooKeeper to close our session. If it does not, the
session expires."""


class Settings(NamedTuple):
    """The settings from the command line. `lock` is the lock in the state directory, if
    the caller has tried to acquire it."""

    ensemble: Ensemble
    config_path: str
    log_target: LogTarget
    max_running: int
    state_dir: str
    lock: Optional[StateLock] = None


def run_daemon(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code of the process."""
    # The loop is never closed: that would restore the default actions of the signals,
    # and one that arrives during the exit would kill us before the pidfile is removed.
    return asyncio.new_event_loop().run_until_complete(_Daemon(settings).run())


def _log_exception(loop: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
    """Log an exception that a callback of the loop has raised."""
    log.error('%s', context['message'], exc_info=context.get('exception'))


class _Daemon:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected = False

    async def run(self) -> int:
        """Run until stopped. Runs in progress outlive the daemon."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_exception)
        self._stop = asyncio.Event()
        self._notifier = Notifier(os.environ, loop.call_later)
        session = Session(self._settings.ensemble, self._connection_changed)
        self._subscriptions = subscriptions = Subscriptions(session)
        state = State(self._settings.state_dir, self._settings.config_path, machine_id(), loop.call_later, self._settings.lock)
        output = Output(self._settings.log_target)
        retries = Retries(loop.call_later)
        runner = Runner(output, state, retries.serve)
        reattached = [(record, runner.reattach(record)) for record in state.unfinished()]
        context = WatchContext(runner.start, state.save_pending, state.save_stopped, retries, Backlog())
        policies = Policies(Slots(self._settings.max_running), Machine(loop, os.uname().nodename))
        watches = Watches(self._settings.config_path, subscriptions, state, context, policies, loop.call_later)
        state.in_force = watches.in_force
        self._loader = Loader(self._settings.config_path, state.good_configs, watches.replace, watches.remove, loop.call_later,
                              self._report_status)
        configs = ConfigDir(self._settings.config_path, self._apply, self._loader.known)
        self._handle_signals(configs)
        log.info('started; configs in %s, ZooKeeper at %s', self._settings.config_path, self._settings.ensemble)
        for record, run in reattached:
            if run:
                watches.add_reattached(record, run)
        session.start()
        subscriptions.start()
        configs.start()
        self._loader.restore(configs.unreadable)
        self._report_status()
        self._notifier.ready()
        await self._stop.wait()
        self._notifier.stopping()
        configs.stop()
        watches.close()
        await runner.close()
        state.close()  # before the rest, which takes longer: a daemon that starts now needs it
        output.close()
        session.stop().join(CLOSE_TIMEOUT)
        log.info('ended')
        return 0

    def _handle_signals(self, configs: ConfigDir) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_requested, number)
        loop.add_signal_handler(signal.SIGHUP, self._reread, configs)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # their default action would end the process
            loop.add_signal_handler(number, log.info, '%s: ignored; it has no meaning', number.name)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)

    def _stop_requested(self, number: signal.Signals) -> None:
        if not self._stop.is_set():
            log.info('%s: stopping; runs in progress go on', number.name)
            self._stop.set()

    def _reread(self, configs: ConfigDir) -> None:
        if self._stop.is_set():
            return
        log.info('SIGHUP: rereading %s', self._settings.config_path)
        self._notifier.reloading()
        configs.reread()
        self._notifier.ready()

    def _apply(self, changes: Changes) -> None:
        self._loader.apply(changes)
        self._report_status()

    def _connection_changed(self, connected: bool) -> None:
        self._connected = connected
        self._report_status()

    def _report_status(self) -> None:
        failing = self._loader.failing
        faults = f'; files that do not load: {len(failing)}, {escaped(failing[0])} first' if failing else ''
        self._notifier.status(f'{"connected" if self._connected else "trying to connect"} to {self._settings.ensemble}; '
                              f'watches in force: {self._subscriptions.count}{faults}')
