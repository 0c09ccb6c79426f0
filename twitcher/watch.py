"""One watch: decides from a znode's states when its action runs, and with what.

Knows no ZooKeeper, no process and no clock: states are told to it, runs are started by what it was given. All of its life
is on the event loop's thread.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import Callable, Deque, List, Optional, Protocol

from twitcher.errors import SpawnError
from twitcher.slots import Slots
from twitcher.spec import RunMode, WatchSpec, WatchType
from twitcher.znode import UNKNOWN, Event, Stamp, Update, ZnodeState

log = logging.getLogger(__name__)

RETRY_SPAWN = 1.0
"""Seconds until a run is tried again that the machine had no memory, process or descriptor for."""

_ABSENT = Stamp(-1, -1, -1)


class Running(Protocol):
    """A run in progress, as far as a watch has to know it."""

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself."""

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call back once, when the run is over."""


Start = Callable[[WatchSpec, Update], Running]
Later = Callable[[float, Callable[[], None]], object]
Owe = Callable[[Optional[Stamp]], None]


class Watch:
    """A RegisterWatch in force.

    `start(spec, update)` starts a run or raises SpawnError; `later(seconds, callback)` calls back; `slots` bound the runs
    in PARALLEL mode. `owe(stamp)` is told the latest update that waits for its run, and None when none does any more. With
    `owes_run` the first state is run for, whatever run_on_load says. `spec.description` must be filled in.
    """

    def __init__(self, spec: WatchSpec, start: Start, later: Later, slots: Slots, owe: Owe, owes_run: bool = False) -> None:
        self.spec = spec
        self.runs: List[Running] = []
        self._start = start
        self._later = later
        self._slots = slots
        self._waiting: Deque[Update] = deque()
        self._seen: Optional[Stamp] = None
        self._load_is_due = spec.run_on_load
        self._owe = owe
        self._owed: Optional[Stamp] = UNKNOWN if owes_run else None
        self._refusals = 0
        self._is_pausing = False
        self._is_closed = False

    def take_over(self, runs: List[Running]) -> None:
        """Count runs of an earlier version of this watch as its own: they must not overlap with new ones."""
        for run in runs:
            self.runs.append(run)
            run.on_end(partial(self._ended, run))

    def inherit(self, earlier: Watch) -> None:
        """Go on where another version of this watch stopped, which has been closed."""
        self._seen = earlier._seen
        self._owed = earlier._owed
        self.take_over(earlier.runs)
        if self.spec.run_mode is RunMode.PARALLEL:
            self._waiting = deque(earlier._waiting)
        elif not self._load_is_due:  # else the load run is about to see the latest contents
            self._waiting = deque(earlier._waiting, 1)
        for _ in range(len(self._waiting)):
            self._proceed()

    def close(self) -> None:
        """Start nothing any more. Runs in progress go on."""
        self._is_closed = True
        self._slots.forget(self._start_one)

    def state_is(self, state: ZnodeState) -> None:
        """The znode's state has been read; it may be the one that is known already."""
        if self._is_closed:
            return
        if state.stamp is None:
            if self._seen not in (None, _ABSENT):
                log.info('%s: %s was deleted', self.spec.description, self.spec.znode)
            self._seen = _ABSENT
            self._load_is_due = False
            self._note_debt()
        elif state.contents is None:
            if self._seen is None and not self._load_is_due and not self._owed:
                self._seen = state.stamp
        else:
            event = self._event(state.stamp)
            self._seen = state.stamp
            self._load_is_due = False
            if event:
                self._updated(Update(event, state.contents, state.version, state.stamp))

    def _event(self, stamp: Stamp) -> Optional[Event]:
        """What has happened since the last state, if anything that calls for a run."""
        if self._load_is_due:
            return Event.LOAD
        if self._seen is None and self._owed:
            return Event.CHANGED if self.spec.watch_type is WatchType.DATA else Event.CHILDREN
        if self._seen is None or self._seen == stamp:
            return None
        if self._seen.czxid != stamp.czxid:
            return Event.CREATED
        return Event.CHANGED if self.spec.watch_type is WatchType.DATA else Event.CHILDREN

    def _updated(self, update: Update) -> None:
        """The one place where the run mode decides."""
        mode = self.spec.run_mode
        # The load of a file is no update: it is not forgotten, and runs with the newest contents when it can.
        if mode is RunMode.DISCARD and self.runs and not self._waiting and update.event is not Event.LOAD:
            log.debug('%s: %s (version %d) is discarded: a run is in progress', self.spec.description, update.event.value,
                      update.version)
            return
        if mode is not RunMode.PARALLEL:
            self._waiting.clear()
        self._waiting.append(update)
        if mode is not RunMode.PARALLEL and self.runs:
            log.debug('%s: %s (version %d) waits for the run in progress', self.spec.description, update.event.value,
                      update.version)
            if self.spec.notify_signal and mode is RunMode.QUEUE:
                for run in self.runs:
                    run.notify(self.spec.notify_signal)
        else:
            self._proceed()
        self._note_debt()

    def _proceed(self) -> None:
        """Start one of what waits, as soon as the mode allows it, and the machine."""
        if self._is_pausing:
            return
        if self.spec.run_mode is RunMode.PARALLEL:
            self._slots.ask(self._start_one)
        elif not self.runs:
            self._start_one()

    def _start_one(self) -> bool:
        """Start the run that has waited longest, if one does; whether there is one more run now."""
        if self._is_closed or self._is_pausing or not self._waiting:
            return False
        update = self._waiting.popleft()
        try:
            run = self._start(self.spec, update)
        except SpawnError as error:
            self._refused(update, error)
            self._note_debt()
            return False
        if self._refusals:
            log.info('%s: started after %d attempts in vain', self.spec.description, self._refusals)
            self._refusals = 0
        self._note_debt()
        self.runs.append(run)
        run.on_end(partial(self._ended, run))
        if self.spec.run_mode is RunMode.PARALLEL:
            run.on_end(self._slots.free)
        return True

    def _refused(self, update: Update, error: SpawnError) -> None:
        """A run could not be started. Where that may pass, try again in a while, and say so once."""
        if not error.transient or not self._refusals:
            log.error('%s: %s%s', self.spec.description, error, '; trying again' if error.transient else '')
        if error.transient:
            self._waiting.appendleft(update)
            self._refusals += 1
            self._is_pausing = True
            self._later(RETRY_SPAWN, self._try_again)

    def _try_again(self) -> None:
        self._is_pausing = False
        for _ in range(len(self._waiting)):
            self._proceed()

    def _note_debt(self) -> None:
        """Pass on what is owed a run, where that has changed."""
        owed = self._waiting[-1].stamp if self._waiting else None
        if owed != self._owed:
            self._owed = owed
            self._owe(owed)

    def _ended(self, run: Running) -> None:
        self.runs.remove(run)
        if self.spec.run_mode is not RunMode.PARALLEL:
            self._proceed()
