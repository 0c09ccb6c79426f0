"""The daemon: owns the loop, the signals, the keeper and the configs, and connects them. The only module that sees both
sides, ZooKeeper's and the files'."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass

from twitcher.configdir import Changes, ConfigDir
from twitcher.keeper import Keeper
from twitcher.log import LogTarget
from twitcher.output import Output
from twitcher.retries import Retries
from twitcher.runner import Runner
from twitcher.service import ServiceManager
from twitcher.slots import Slots
from twitcher.state import State
from twitcher.watch import Around
from twitcher.watches import Watches

log = logging.getLogger(__name__)

FAREWELL = 0.5
"""Seconds that a stop waits for ZooKeeper to take leave of our session; if it does not, the session expires there."""


@dataclass(frozen=True)
class Settings:
    """What a daemon is told when it starts."""

    hosts: str
    config_path: str
    log_target: LogTarget
    max_running: int
    state_dir: str


def run_daemon(settings: Settings) -> int:
    """Watch until SIGTERM or SIGINT. Returns the exit code."""
    return asyncio.run(_Daemon(settings).run())


class _Daemon:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._exit_code = 0
        self._connected = False

    async def run(self) -> int:
        """The daemon's life. Runs in progress outlive it."""
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._manager = ServiceManager(os.environ, loop.call_later)
        self._keeper = keeper = Keeper(self._settings.hosts, self._keeper_died, self._keeper_connected)
        state = State(self._settings.state_dir, self._settings.config_path, loop.call_later)
        retries = Retries(loop.call_later)
        runner = Runner(Output(self._settings.log_target), state, retries)
        slots = Slots(self._settings.max_running)
        self._watches = watches = Watches(self._settings.config_path, keeper, state,
                                          Around(runner.start, slots, retries, state.set_waiting))
        configs = ConfigDir(self._settings.config_path, self._apply)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reread, configs)
        log.info('started; configs in %s, ZooKeeper at %s', self._settings.config_path, self._settings.hosts)
        for record in state.unfinished():
            run = runner.reattach(record)
            if run:
                watches.adopt(record.watch, run)
                if record.has_slot:
                    slots.take()
                    run.on_end(lambda _: slots.free())
        keeper.start()
        configs.start()
        self._tell_status()
        self._manager.ready()
        await self._stop.wait()
        self._manager.stopping()
        configs.stop()
        watches.close()
        await runner.close()
        state.close()  # first: who starts now must find it
        keeper.stop().join(FAREWELL)
        log.info('ended')
        return self._exit_code

    def _told_to_stop(self, number: signal.Signals) -> None:
        log.info('%s: stopping; runs in progress go on', number.name)
        self._stop.set()

    def _reread(self, configs: ConfigDir) -> None:
        log.info('SIGHUP: rereading %s', self._settings.config_path)
        self._manager.reloading()
        configs.reread()
        self._manager.ready()

    def _apply(self, changes: Changes) -> None:
        self._watches.apply(changes)
        self._tell_status()

    def _keeper_connected(self, connected: bool) -> None:
        self._connected = connected
        self._tell_status()

    def _tell_status(self) -> None:
        self._manager.status(f'{"connected" if self._connected else "trying to connect"} to {self._settings.hosts}; '
                             f'watches in force: {self._keeper.subscriptions}')

    def _keeper_died(self, reason: str) -> None:
        log.critical('the ZooKeeper client has ended and cannot go on (%s): exiting, to be started anew', reason)
        self._exit_code = 1
        self._stop.set()
