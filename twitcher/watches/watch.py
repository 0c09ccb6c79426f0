"""One watch: decides from a znode's states when its action runs, and with what.

Knows no ZooKeeper, no process and no clock: states are told to it, runs are started by what it was given. All of its life
is on the event loop's thread.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, List, Optional, Protocol, Sequence

from twitcher.config.spec import RunMode, WatchSpec, WatchType
from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.run_record import RunEnd
from twitcher.watches.backlog import Backlog
from twitcher.watches.retries import Retries
from twitcher.watches.slots import Slots
from twitcher.znode import UNKNOWN, Event, Stamp, Update, ZnodeState

log = get_logger(__name__)

_ABSENT = Stamp(-1, -1, -1)


class Running(Protocol):
    """A run in progress, as far as a watch has to know it. `update` is what it runs for, until its process exists."""

    update: Optional[Update]

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself."""

    def awaited(self) -> None:
        """An update waits for the end of this run from now on."""

    def on_end(self, callback: Callable[[RunEnd], None]) -> None:
        """Call back once, when the run is over and its end has been noted in the state."""


class Around:
    """What all watches share. Those that know a watch by its name get that first.

    `start(name, spec, description, update)` starts a run or raises SpawnError; `slots` bound the runs in PARALLEL mode, and
    `backlog` the updates that wait for them; `retries` tries again what could not be started. `owe(name, stamp)` is told the
    latest update that waits for its run, and None when none does any more.
    """

    def __init__(self, start: Callable[[str, WatchSpec, str, Update], Running], slots: Slots, retries: Retries,
                 owe: Callable[[str, Optional[Stamp]], None]) -> None:
        self.start = start
        self.slots = slots
        self.retries = retries
        self.owe = owe
        self.backlog = Backlog()


class Watch:
    """A RegisterWatch in force.

    `name` tells it from all others, also in the daemons to come; `path` is its file; `description` is what the log calls
    it. If an update is pending from an earlier daemon, the first state is run for, whatever run_on_load says. `was_told`
    is true as soon as it has learned a state of its znode.
    """

    __slots__ = ('name', 'path', 'spec', 'description', 'runs', 'was_told', '_around', '_waiting', '_seen', '_load_is_due',
                 '_owed', '_was_refused', '_is_pausing', '_is_closed')  # there may be tens of thousands

    def __init__(self, name: str, path: str, spec: WatchSpec, description: str, around: Around,
                 has_pending: bool = False) -> None:
        self.name = name
        self.path = path
        self.spec = spec
        self.description = description
        self.runs: List[Running] = []
        self.was_told = False
        self._around = around
        self._waiting: List[Update] = []
        self._seen: Optional[Stamp] = None
        self._load_is_due = spec.run_on_load
        self._owed: Optional[Stamp] = UNKNOWN if has_pending else None
        self._was_refused = False
        self._is_pausing = False
        self._is_closed = False

    @property
    def pending(self) -> Optional[Stamp]:
        """The latest update that waits for its run, as it is noted in the state."""
        return self._owed

    def wait_for(self, runs: Sequence[Running]) -> None:
        """Start nothing until these are over (in PARALLEL mode: but count them as its own)."""
        for run in runs:
            if run not in self.runs:
                self.runs.append(run)
                run.on_end(partial(self.stop_waiting_for, run))

    def stop_waiting_for(self, run: Running, end: Optional[RunEnd] = None) -> None:
        """The run is over, or could not be started, or turns out to be another watch's."""
        if run in self.runs:
            self._ended(run, end or RunEnd())

    def continue_from(self, earlier: Watch, is_same: bool = False) -> None:
        """Go on where another version of this watch stopped, which has been closed; `is_same` if it asked for the same."""
        self._seen = earlier._seen
        self._owed = earlier._owed
        if is_same:
            self._load_is_due = earlier._load_is_due
        self.wait_for(earlier.runs)
        if self.spec.run_mode is RunMode.PARALLEL:
            for update in earlier._waiting:
                self._wait_in_line(update)
        elif not self._load_is_due:  # else the load run is about to see the latest contents
            self._waiting = earlier._waiting[-1:]
        if self._waiting:
            self._proceed()
            self._note_debt()

    def close(self) -> None:
        """Start nothing any more. Runs in progress go on."""
        self._is_closed = True
        self._around.slots.cancel(self._start_next)
        self._around.backlog.cancel(self)

    def state_is(self, state: ZnodeState) -> None:
        """The znode's state has been read; it may be the one that is known already."""
        if self._is_closed:
            return
        self.was_told = True
        if state.stamp is None:
            if self._seen not in (None, _ABSENT):
                log.info('%s: %s was deleted', self.description, self.spec.znode)
            self._seen = _ABSENT
            self._load_is_due = False
            self._note_debt()
        elif state.contents is None:
            if self._seen is None and not self._load_is_due and not self._owed:
                self._seen = state.stamp
        else:
            event = self._event(state.stamp)
            if event:
                self._updated(Update(event, state.contents, state.version, state.stamp))
            # Not before: if that fails the state is read, and told, once more.
            self._seen = state.stamp
            self._load_is_due = False

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
            log.debug('%s: %s (version %d) is discarded: a run is in progress', self.description, update.event.value,
                      update.version)
            for run in self.runs:
                if run.update:  # should it not start after all, it is tried again with the newest contents
                    run.update = update
            return
        if mode is RunMode.PARALLEL:
            self._wait_in_line(update)
        else:
            self._waiting[:] = [update]
        if self._owed is UNKNOWN:  # or a daemon killed right after the start would take it for pending still
            self._note_debt()
        if mode is not RunMode.PARALLEL and self.runs:
            log.debug('%s: %s (version %d) waits for the run in progress', self.description, update.event.value,
                      update.version)
            for run in self.runs:
                run.awaited()
                if self.spec.notify_signal and mode is RunMode.QUEUE:
                    run.notify(self.spec.notify_signal)
        else:
            self._proceed()
        self._note_debt()

    def _proceed(self) -> None:
        """Start one of what waits, as soon as the mode allows it, and the machine."""
        if self._is_pausing:
            return
        if self.spec.run_mode is RunMode.PARALLEL:
            self._around.slots.acquire(self._start_next)
        elif not self.runs:
            self._start_one()

    def _wait_in_line(self, update: Update) -> None:
        self._waiting.append(update)
        self._around.backlog.add(self, len(update.contents))

    def drop_oldest(self) -> int:
        """As backlog.Queue says."""
        return len(self._waiting.pop(0).contents)

    def _start_next(self) -> bool:
        """It is our turn to start one run in PARALLEL mode; whether it was started."""
        head = self._waiting[0] if self._waiting else None
        is_started = self._start_one()
        if head and not (self._waiting and self._waiting[0] is head):
            self._around.backlog.remove(self, len(head.contents))
        if self._waiting and not self._is_pausing and not self._is_closed:
            self._around.slots.acquire(self._start_next)
        return is_started

    def _start_one(self) -> bool:
        """Start the run that has waited longest, if one does; whether there is one more run now."""
        if self._is_closed or self._is_pausing or not self._waiting:
            return False
        update = self._waiting.pop(0)
        try:
            run = self._around.start(self.name, self.spec, self.description, update)
        except Exception as error:  # whatever it is, the update must not be lost
            self._refused(update, error if isinstance(error, SpawnError) else SpawnError(f'no run: {error!r}', transient=True))
            self._note_debt()
            return False
        self._note_debt()
        self.runs.append(run)
        run.on_end(partial(self._ended, run))
        if self.spec.run_mode is RunMode.PARALLEL:
            run.on_end(lambda _: self._around.slots.release())
        return True

    def _refused(self, update: Update, error: SpawnError) -> None:
        """A run could not be started. If the machine was the reason, try again, and say so once."""
        begins = False
        if error.transient:
            self._put_back(update)
            if not self._is_pausing:
                self._is_pausing = True
                begins = self._around.retries.add(self._try_again, error.is_shortage)
        if begins or not error.transient or not (self._was_refused or error.is_shortage):
            log.error('%s: %s%s', self.description, error, '; trying again' if error.transient else '')
        self._was_refused = error.transient

    def _put_back(self, update: Update) -> None:
        """It has not been run for after all."""
        if self.spec.run_mode is RunMode.PARALLEL:
            self._waiting.insert(sum(other.arrived < update.arrived for other in self._waiting), update)
        elif not self._waiting:
            self._waiting.append(update)

    def _try_again(self) -> None:
        self._is_pausing = False
        if self._waiting and not self._is_closed:
            self._proceed()

    def _note_debt(self) -> None:
        """Pass on what is owed a run, where that has changed."""
        owed = self._waiting[-1].stamp if self._waiting else None
        if owed != self._owed:
            self._owed = owed
            self._around.owe(self.name, owed)

    def _ended(self, run: Running, end: RunEnd) -> None:
        self.runs.remove(run)
        error = end.error
        if error and run.update and not self._is_closed:
            self._refused(run.update, error)
            if error.transient and self.spec.run_mode is RunMode.PARALLEL:
                self._around.backlog.add(self, len(run.update.contents))
            self._note_debt()
        elif error and run.update and error.transient:
            self._put_back(run.update)  # for the watch that goes on from this one
        elif not error:
            self._was_refused = False
        if self.spec.run_mode is not RunMode.PARALLEL:
            self._proceed()
