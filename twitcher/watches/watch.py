"""One watch: decides from a znode's states when its action runs, and on which contents.

Receives znode states and starts runs through a callable; both are handed in. It uses no
ZooKeeper, no process and no clock. Call it on the event loop's thread only.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, List, Optional

from twitcher.config.spec import WatchSpec
from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.run_record import RunEnd
from twitcher.watches.changes import last_seen_for
from twitcher.watches.context import Running, WatchContext
from twitcher.watches.gates import Gate
from twitcher.watches.progress import InProgress, without
from twitcher.znode import ABSENT, UNKNOWN, Event, Revision, Update, ZnodeState

if TYPE_CHECKING:
    from twitcher.watches.schedule import Schedule
log = get_logger(__name__)


class _State(Enum):
    """Whether a watch starts what is due."""

    READY = 'starts it as soon as its runs and its gate allow'
    REFUSED = 'the machine has refused a start: starts nothing until the retry'
    RETRYING = 'as READY; but no run has succeeded in starting since it was refused'
    CLOSED = 'starts no more runs'


class Watch(InProgress):
    """A RegisterWatch in force.

    `name` identifies it, also to later daemons; `path` is its file; `description` is
    its name in the log. A `schedule` decides when updates are due; without one, they
    are due at once. `basis` is for LastSeen. With `has_pending`, an earlier daemon left
    an update pending: the first state that can be read gets a run, even without
    run_on_load.
    """

    __slots__ = ('name', 'path', 'spec', 'description', 'last_seen', '_context', '_gate', 'schedule', '_pending', '_noted',
                 '_state')  # there may be tens of thousands

    def __init__(self, name: str, path: str, spec: WatchSpec, description: str, context: WatchContext, gate: Gate,
                 schedule: Optional[Schedule] = None, basis: Optional[Revision] = None, has_pending: bool = False) -> None:
        super().__init__()
        self.name = name
        self.path = path
        self.spec = spec
        self.description = description
        self.last_seen = last_seen_for(spec, basis)
        self._context = context
        self._gate = gate
        self.schedule = schedule
        self._pending: List[Update] = []
        self._noted: Optional[Revision] = UNKNOWN if has_pending else None
        self._state = _State.READY

    @property
    def pending(self) -> Optional[Revision]:
        """The latest pending update, as noted for the next daemon."""
        return self._noted

    def continue_from(self, earlier: Watch, is_same: bool = False) -> None:
        """Continue where a closed version stopped. `is_same`: it asked for the same."""
        self.last_seen.continue_from(earlier.last_seen, is_same)
        self._noted = earlier._noted
        held = None
        if is_same:
            self.schedule = earlier.schedule
        elif earlier.schedule:
            held = earlier.schedule.held
            if self.schedule and earlier.runs:
                self.schedule.attempt = earlier.schedule.attempt  # of the run in progress
        self.take_over(earlier.runs)
        self.wait_for(earlier._awaited)
        earlier.runs = ()
        if self.spec.run_mode.overlaps or not self.last_seen.is_load_due:  # the load runs with the latest contents
            for update in earlier._pending:
                if self.schedule:
                    self.schedule.see(update)
                self._add_pending(update)
            if held:
                self._updated(held.again(held.event))
        elif earlier._pending and self._noted is None:
            self._note(earlier._pending[-1].revision)
        if self._pending:
            if self.spec.run_mode.restarts:
                self.end_runs()
            self._proceed()
            self.note_pending()

    def open(self) -> None:
        """It is known what it continues from: let delays end from now on."""
        if self.schedule:
            self.schedule.attach(self)

    def close(self) -> None:
        """Start no more runs. Those in progress go on."""
        self._change_to(_State.CLOSED)
        self._gate.cancel(self._start_next)
        self._context.backlog.cancel(self)
        if self.schedule:
            self.schedule.detach()

    def on_state(self, state: ZnodeState) -> None:
        """The znode has been read. The state may be known already."""
        if self._state is _State.CLOSED:
            return
        if state.revision is None:
            self._on_deletion(is_new=self.last_seen.is_deletion(state))
        elif state.contents is not None:
            event = self.last_seen.event(state.revision, self._is_any_due())
            if event:
                attempt = self.schedule.next_attempt(state.revision) if self.schedule else 1
                self._updated(Update(event, self.last_seen.contents(state), state.version, state.revision, attempt))
            elif self.schedule:
                self.schedule.see(Update(self.last_seen.change, self.last_seen.contents(state), state.version, state.revision))
                if not self.runs and not self._pending:
                    self.schedule.rest()
        self.last_seen.note(state)  # not earlier: if the update fails, this state is delivered again

    def _is_any_due(self) -> bool:
        """Whether an earlier daemon left an update pending, or it was left to the run
        at load: any contents will do."""
        return self._noted is not None and not self._pending and not (self.schedule and self.schedule.held)

    def _on_deletion(self, is_new: bool) -> None:
        """The znode is not there."""
        if is_new:
            log.info('%s: %s was deleted', self.description, self.spec.znode)
        if self.spec.run_on_delete and (is_new or self._is_any_due()):
            self._updated(Update(Event.DELETED, b'', -1, ABSENT))
        else:
            if self.schedule:
                self.schedule.delete()
            self.note_pending()

    def _updated(self, update: Update) -> None:
        """Start a run for the update, let it wait, or drop it: the run mode decides."""
        mode = self.spec.run_mode
        if self.schedule:
            self.schedule.see(update)
        # A load is no update: it is not dropped, but runs with the latest contents.
        if mode.drops_updates and self.runs and not self._noted and update.event is not Event.LOAD:
            log.debug('%s: %s (version %d) is discarded: a run is in progress', self.description, update.event.value,
                      update.version)
            for run in self.runs:
                if run.update:  # if that run cannot start after all, the retry has the latest contents
                    run.update = update
            return
        if self.schedule and (mode.overlaps or not self._pending):  # otherwise a run is due: it gets these contents
            self.schedule.update(update)
        else:
            self.due(update)

    def due(self, update: Update) -> None:
        """Run for the update as soon as runs in progress and the gate allow."""
        mode = self.spec.run_mode
        self._add_pending(update)
        if self._noted:  # before the start: if we are killed right after it, the earlier update must not be pending
            self.note_pending()
        if not mode.overlaps and (self.runs or self._awaited):
            log.debug('%s: %s (version %d) waits for the run in progress', self.description, update.event.value, update.version)
            self.await_runs()
            if self.spec.notify_signal and not mode.drops_updates and not mode.restarts:
                self.notify_runs(self.spec.notify_signal)
        if mode.restarts:
            self.end_runs()
        self._proceed()
        self.note_pending()

    def withdraw(self) -> None:
        """As schedule.Owner says."""
        self._gate.cancel(self._start_next)
        self._context.backlog.cancel(self)
        self._pending.clear()
        self._context.save_stopped(self.name, self.spec.digest)

    def _add_pending(self, update: Update) -> None:
        """Make it pending. Where runs do not overlap, it replaces an earlier one."""
        if self.spec.run_mode.overlaps:
            self._pending.append(update)
            self._context.backlog.add(self, len(update.contents))
        else:
            self._pending[:] = [update]

    def drop_oldest(self) -> int:
        """As backlog.Queue says."""
        return len(self._pending.pop(0).contents)

    def _proceed(self) -> None:
        """Start what is pending as soon as runs, a due retry and the gate allow it."""
        if self._pending and self._may_start():
            self._gate.acquire(self._start_next)

    def _may_start(self) -> bool:
        is_free = self.spec.run_mode.overlaps or not (self.runs or self._awaited)
        return is_free and self._state in (_State.READY, _State.RETRYING)

    def _start_next(self) -> None:
        """The gate is open: start the oldest pending update, and ask for the next."""
        run = self._start_run() if self._pending and self._may_start() else None
        if run:
            run.on_end(partial(self._own_ended, run))
        else:
            self._gate.release()
        self._proceed()

    def _start_run(self) -> Optional[Running]:
        update = self._pending.pop(0)
        if self.spec.run_mode.overlaps:
            self._context.backlog.remove(self, len(update.contents))
        if self.schedule:
            self.schedule.start(update)
        try:
            run = self._context.start_run(self.name, self.spec, self.description, update)
        except Exception as error:  # no error may cost the update
            self._refused(update, error if isinstance(error, SpawnError) else SpawnError(f'no run: {error!r}', transient=True))
            self.note_pending()
            return None
        self.runs += (run,)
        self.note_pending()
        return run

    def _refused(self, update: Update, error: SpawnError) -> None:
        """A run could not be started. If the machine was the reason, try again."""
        was_refused = self._state in (_State.REFUSED, _State.RETRYING)
        is_first = False
        if error.transient:
            self._put_back(update)
            if self._state is not _State.REFUSED:
                is_first = self._context.retries.add(self._retry, error.is_shortage)
                self._change_to(_State.REFUSED)
        elif self._state is _State.RETRYING:
            self._change_to(_State.READY)
        if is_first or not error.transient or not (was_refused or error.is_shortage):
            log.error('%s: %s%s', self.description, error, '; trying again' if error.transient else '')
        if self.schedule and not error.transient:
            self.schedule.end(RunEnd(error=error), bool(self._pending or self.runs))

    def _put_back(self, update: Update) -> None:
        """Make it pending again, unless a later one has replaced it: it got no run."""
        if self.schedule and self.schedule.replaces_refused():
            return
        if self.spec.run_mode.overlaps:
            self._pending.insert(sum(other.arrived < update.arrived for other in self._pending), update)
            if self._state is not _State.CLOSED:
                self._context.backlog.add(self, len(update.contents))
        elif not self._pending:
            self._pending.append(update)

    def _retry(self) -> None:
        self._change_to(_State.RETRYING)
        self._proceed()

    def _ended(self, run: Running, end: RunEnd) -> None:
        if run not in self.runs:
            return
        self.runs = without(run, self.runs)
        if end.error and run.update and self._state is not _State.CLOSED:
            self._refused(run.update, end.error)
            self.note_pending()
        elif end.error and run.update and end.error.transient:
            self._put_back(run.update)  # for the watch that continues from this one
        else:
            self.last_seen.run_ended(end.outcome)
            if self._state is _State.RETRYING:
                self._change_to(_State.READY)
            if self.schedule:
                self.schedule.end(end, bool(self._pending or self.runs))
        self._proceed()

    def _own_ended(self, run: Running, end: RunEnd) -> None:
        self._ended(run, end)
        self._gate.release()

    def _change_to(self, state: _State) -> None:
        """The one place where the state changes. CLOSED is final."""
        if self._state is not _State.CLOSED:
            self._state = state

    def note_pending(self) -> None:
        """Note the latest pending update for the next daemon, if it has changed."""
        revision = self._pending[-1].revision if self._pending else None
        if self.schedule:
            revision = self.schedule.pending_revision(self._pending[-1:], self._noted)
        if self._state is not _State.CLOSED:
            self._note(revision)

    def _note(self, revision: Optional[Revision]) -> None:
        if revision != self._noted:
            self._noted = revision
            self._context.save_pending(self.name, revision)
