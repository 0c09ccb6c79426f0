"""One watch: decides from a znode's states when its action runs, and with what.

Knows no ZooKeeper, no process and no clock: states are told to it, runs are started by what it was given. All of its life
is on the event loop's thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Callable, List, Optional, Protocol, Sequence

from twitcher.config.spec import WatchSpec
from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.watches.backlog import Backlog
from twitcher.watches.changes import LastSeen
from twitcher.watches.gates import Gate
from twitcher.watches.retries import Retries
from twitcher.znode import UNKNOWN, Event, Stamp, Update, ZnodeState

log = get_logger(__name__)


class Running(Protocol):
    """A run in progress, as far as a watch has to know it. `update` is what it runs for, until its process exists."""

    update: Optional[Update]

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself."""

    def awaited(self) -> None:
        """An update waits for the end of this run from now on."""

    def on_end(self, callback: Callable[[Optional[SpawnError]], None]) -> None:
        """Call back once, when the run is over; with the reason if its process could not be started."""


@dataclass(frozen=True)
class WatchContext:
    """What all watches share. Those that know a watch by its name get that first.

    `start_run(name, spec, description, update)` starts a run or raises SpawnError.
    `save_pending(name, stamp)` notes the latest update that is pending, None if none
    is. `retries` tries again what could not be started. `backlog` bounds the updates
    that are pending in PARALLEL mode.
    """

    start_run: Callable[[str, WatchSpec, str, Update], Running]
    save_pending: Callable[[str, Optional[Stamp]], None]
    retries: Retries
    backlog: Backlog = field(default_factory=Backlog)


class Watch:
    """A RegisterWatch in force.

    `name` tells it from all others, also in the daemons to come; `path` is its file; `description` is what the log calls
    it. If an update is pending from an earlier daemon, the first state is run for, whatever run_on_load says.
    """

    __slots__ = ('name', 'path', 'spec', 'description', 'runs', 'last_seen', '_context', '_gate', '_waiting', '_owed',
                  '_was_refused', '_is_pausing', '_is_closed')  # there may be tens of thousands

    def __init__(self, name: str, path: str, spec: WatchSpec, description: str, context: WatchContext,
                 gate: Gate, has_pending: bool = False) -> None:
        self.name = name
        self.path = path
        self.spec = spec
        self.description = description
        self.runs: List[Running] = []
        self.last_seen = LastSeen(spec)
        self._context = context
        self._gate = gate
        self._waiting: List[Update] = []
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

    def stop_waiting_for(self, run: Running, error: Optional[SpawnError] = None) -> None:
        """The run is over, or could not be started, or turns out to be another watch's."""
        if run in self.runs:
            self._ended(run, error)

    def continue_from(self, earlier: Watch, is_same: bool = False) -> None:
        """Go on where another version of this watch stopped, which has been closed; `is_same` if it asked for the same."""
        self.last_seen.continue_from(earlier.last_seen, is_same)
        self._owed = earlier._owed
        self.wait_for(earlier.runs)
        if self.spec.run_mode.overlaps:
            for update in earlier._waiting:
                self._wait_in_line(update)
        elif not self.last_seen.is_load_due:  # else the load run is about to see the latest contents
            self._waiting = earlier._waiting[-1:]
        if self._waiting:
            self._proceed()
            self._note_debt()
        elif earlier._waiting:
            self._note(earlier._waiting[-1].stamp)

    def close(self) -> None:
        """Start nothing any more. Runs in progress go on."""
        self._is_closed = True
        self._gate.cancel(self._start_next)
        self._context.backlog.cancel(self)

    def state_is(self, state: ZnodeState) -> None:
        """The znode's state has been read; it may be the one that is known already."""
        if self._is_closed:
            return
        if state.stamp is None:
            if self.last_seen.is_deletion(state):
                log.info('%s: %s was deleted', self.description, self.spec.znode)
            self._note_debt()
        elif state.contents is not None:
            # Pending from an earlier daemon, or left to a load: any contents will do.
            is_pending = self._owed is not None and not self._waiting
            event = self.last_seen.event(state.stamp, is_pending)
            if event:
                self._updated(Update(event, state.contents, state.version, state.stamp))
        self.last_seen.note(state)  # not before: if the above fails the state is told once more

    def _updated(self, update: Update) -> None:
        """The one place where the run mode decides."""
        mode = self.spec.run_mode
        # The load of a file is no update: it is not forgotten, and runs with the newest contents when it can.
        if mode.drops_updates and self.runs and not self._owed and update.event is not Event.LOAD:
            log.debug('%s: %s (version %d) is discarded: a run is in progress', self.description, update.event.value,
                      update.version)
            for run in self.runs:
                if run.update:  # should it not start after all, it is tried again with the newest contents
                    run.update = update
            return
        if mode.overlaps:
            self._wait_in_line(update)
        else:
            self._waiting[:] = [update]
        if self._owed:  # first: a daemon killed right after the start would leave the earlier one as pending
            self._note_debt()
        if not mode.overlaps and self.runs:
            log.debug('%s: %s (version %d) waits for the run in progress', self.description, update.event.value,
                      update.version)
            for run in self.runs:
                run.awaited()
                if self.spec.notify_signal and not mode.drops_updates:
                    run.notify(self.spec.notify_signal)
        else:
            self._proceed()
        self._note_debt()

    def _proceed(self) -> None:
        """Start what waits, as soon as the runs in progress, the machine and the gate allow it."""
        if self._waiting and self._may_start():
            self._gate.acquire(self._start_next)

    def _may_start(self) -> bool:
        return not self._is_closed and not self._is_pausing and (self.spec.run_mode.overlaps or not self.runs)

    def _wait_in_line(self, update: Update) -> None:
        self._waiting.append(update)
        self._context.backlog.add(self, len(update.contents))

    def drop_oldest(self) -> int:
        """As backlog.Queue says."""
        return len(self._waiting.pop(0).contents)

    def _start_next(self) -> None:
        """The gate is open: start the run that has waited longest, and ask for the next one."""
        run = self._start_one() if self._waiting and self._may_start() else None
        if run:
            run.on_end(partial(self._own_ended, run))
        else:
            self._gate.release()
        self._proceed()

    def _start_one(self) -> Optional[Running]:
        update = self._waiting.pop(0)
        if self.spec.run_mode.overlaps:
            self._context.backlog.remove(self, len(update.contents))
        try:
            run = self._context.start_run(self.name, self.spec, self.description, update)
        except Exception as error:  # whatever it is, the update must not be lost
            self._refused(update, error if isinstance(error, SpawnError) else SpawnError(f'no run: {error!r}', transient=True))
            self._note_debt()
            return None
        self.runs.append(run)
        self._note_debt()
        return run

    def _refused(self, update: Update, error: SpawnError) -> None:
        """A run could not be started. If the machine was the reason, try again, and say so once."""
        begins = False
        if error.transient:
            self._put_back(update)
            if not self._is_pausing:
                self._is_pausing = True
                begins = self._context.retries.add(self._try_again, error.is_shortage)
        if begins or not error.transient or not (self._was_refused or error.is_shortage):
            log.error('%s: %s%s', self.description, error, '; trying again' if error.transient else '')
        self._was_refused = error.transient

    def _put_back(self, update: Update) -> None:
        """It has not been run for after all."""
        if self.spec.run_mode.overlaps:
            self._waiting.insert(sum(other.arrived < update.arrived for other in self._waiting), update)
            if not self._is_closed:
                self._context.backlog.add(self, len(update.contents))
        elif not self._waiting:
            self._waiting.append(update)

    def _try_again(self) -> None:
        self._is_pausing = False
        self._proceed()

    def _note_debt(self) -> None:
        """Pass on what is owed a run, where that has changed."""
        self._note(self._waiting[-1].stamp if self._waiting else None)

    def _note(self, owed: Optional[Stamp]) -> None:
        if owed != self._owed:
            self._owed = owed
            self._context.save_pending(self.name, owed)

    def _ended(self, run: Running, error: Optional[SpawnError]) -> None:
        self.runs.remove(run)
        if error and run.update and not self._is_closed:
            self._refused(run.update, error)
            self._note_debt()
        elif error and run.update and error.transient:
            self._put_back(run.update)  # for the watch that goes on from this one
        elif not error:
            self._was_refused = False
        self._proceed()

    def _own_ended(self, run: Running, error: Optional[SpawnError]) -> None:
        self._ended(run, error)
        self._gate.release()
