"""The daemon: owns the loop, the signals, the keeper and the configs, and connects them. The only module that sees both
sides, ZooKeeper's and the files'."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from typing import Any, Dict, Optional

from twitcher.config.directory import Changes, ConfigDir
from twitcher.config.loader import Loader
from twitcher.lock import StateLock
from twitcher.log import get_logger
from twitcher.log_target import LogTarget, escaped
from twitcher.runs.output import Output
from twitcher.runs.runner import Runner
from twitcher.sd_notify import Notifier
from twitcher.state import State
from twitcher.watches.registry import Watches
from twitcher.watches.retries import Retries
from twitcher.watches.slots import Slots
from twitcher.watches.watch import Around
from twitcher.zookeeper.session import Session
from twitcher.zookeeper.subscriptions import Keeper

log = get_logger(__name__)

HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that the caller of run_daemon has blocked, so that none is lost, or ends the process, before the loop runs."""
FAREWELL = 0.5
"""Seconds that a stop waits for ZooKeeper to take leave of our session; if it does not, the session expires there."""


@dataclass(frozen=True)
class Settings:
    """What a daemon is told when it starts. `lock` is that of the state directory, if it has been tried before."""

    hosts: str
    config_path: str
    log_target: LogTarget
    max_running: int
    state_dir: str
    lock: Optional[StateLock] = None


def run_daemon(settings: Settings) -> int:
    """Watch until SIGTERM or SIGINT. Returns the exit code. The caller is to exit then."""
    # The loop is never closed: that would give the signals their default actions back, and one that comes during the exit would
    # kill the process before it has removed its pidfile.
    return asyncio.new_event_loop().run_until_complete(_Daemon(settings).run())


def _log_exception(loop: asyncio.AbstractEventLoop, context: Dict[str, Any]) -> None:
    """Log what a callback of the loop has raised."""
    log.error('%s', context['message'], exc_info=context.get('exception'))


class _Daemon:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected = False

    async def run(self) -> int:
        """The daemon's life. Runs in progress outlive it."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_exception)
        self._stop = asyncio.Event()
        self._notifier = Notifier(os.environ, loop.call_later)
        session = Session(self._settings.hosts, self._connection_changed)
        self._keeper = keeper = Keeper(session)
        state = State(self._settings.state_dir, self._settings.config_path, loop.call_later, self._settings.lock)
        output = Output(self._settings.log_target)
        retries = Retries(loop.call_later)
        runner = Runner(output, state, retries)
        slots = Slots(self._settings.max_running)
        reattached = [(record, runner.reattach(record)) for record in state.unfinished()]
        watches = Watches(self._settings.config_path, keeper, state,
                          Around(runner.start, slots, retries, state.save_pending), loop.call_later)
        self._loader = Loader(self._settings.config_path, state.good_configs, watches.replace, watches.remove, loop.call_later,
                              self._tell_status)
        configs = ConfigDir(self._settings.config_path, self._apply, self._loader.known)
        self._handle_signals(configs)
        log.info('started; configs in %s, ZooKeeper at %s', self._settings.config_path, self._settings.hosts)
        for record, run in reattached:
            if run:
                watches.adopt(record, run)
                if record.has_slot:
                    slots.count()
                    run.on_end(lambda _: slots.release())
        session.start()
        keeper.start()
        configs.start()
        self._loader.restore(configs.unreadable)
        self._tell_status()
        self._notifier.ready()
        await self._stop.wait()
        self._notifier.stopping()
        configs.stop()
        watches.close()
        await runner.close()
        state.close()  # first: who starts now must find it
        output.close()
        session.stop().join(FAREWELL)
        log.info('ended')
        return 0

    def _handle_signals(self, configs: ConfigDir) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reread, configs)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # whose default action is to end the process
            loop.add_signal_handler(number, log.info, '%s: ignored; it has no meaning', number.name)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)

    def _told_to_stop(self, number: signal.Signals) -> None:
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
        self._tell_status()

    def _connection_changed(self, connected: bool) -> None:
        self._connected = connected
        self._tell_status()

    def _tell_status(self) -> None:
        failing = self._loader.failing
        faults = f'; files that do not load: {len(failing)}, {escaped(failing[0])} first' if failing else ''
        self._notifier.status(f'{"connected" if self._connected else "trying to connect"} to {self._settings.hosts}; '
                             f'watches in force: {self._keeper.subscriptions}{faults}')
