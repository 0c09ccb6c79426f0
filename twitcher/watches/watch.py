"""One watch: decides from a znode's states when its action runs, and on which contents.

Receives znode states and starts runs through a callable; both are handed in. It uses no
ZooKeeper, no process and no clock. Call it on the event loop's thread only.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Callable, List, NamedTuple, Optional, Protocol, Sequence, Tuple

from twitcher.config.spec import WatchSpec
from twitcher.errors import SpawnError
from twitcher.log import get_logger
from twitcher.run_record import RunEnd
from twitcher.watches.backlog import Backlog
from twitcher.watches.changes import LastSeen
from twitcher.watches.gates import Gate
from twitcher.watches.retries import Retries
from twitcher.znode import UNKNOWN, Event, Revision, Update, ZnodeState

log = get_logger(__name__)


class Running(Protocol):
    """A run in progress. `update` is what it runs for, until its process exists."""

    update: Optional[Update]

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself."""

    def awaited(self) -> None:
        """From now on an update waits for the end of this run."""

    def on_end(self, callback: Callable[[RunEnd], None]) -> None:
        """Call back once, when the run has ended and the state has noted that."""


class WatchContext(NamedTuple):
    """The parts that all watches share.

    `start_run(name, spec, description, update)` starts a run of the watch with this
    name, or raises SpawnError. `save_pending(name, revision)` notes its latest pending
    update; None if there is none. `retries` repeats starts that the machine refused.
    `backlog` limits the pending updates of all watches in PARALLEL mode.
    """

    start_run: Callable[[str, WatchSpec, str, Update], Running]
    save_pending: Callable[[str, Optional[Revision]], None]
    retries: Retries
    backlog: Backlog


class _State(Enum):
    """Whether a watch starts what is pending."""

    READY = 'starts it as soon as its runs and its gate allow'
    REFUSED = 'the machine has refused a start: starts nothing until the retry'
    RETRYING = 'as READY; but no run has succeeded in starting since it was refused'
    CLOSED = 'starts no more runs'


class Watch:
    """A RegisterWatch in force.

    `name` identifies it, also to later daemons; `path` is its file; `description` is
    its name in the log. With `has_pending`, an earlier daemon left an update pending:
    the first state that can be read gets a run, even without run_on_load.
    """

    __slots__ = ('name', 'path', 'spec', 'description', 'runs', 'last_seen', '_awaited', '_context', '_gate', '_pending',
                 '_noted', '_state')  # there may be tens of thousands

    def __init__(self, name: str, path: str, spec: WatchSpec, description: str, context: WatchContext,
                 gate: Gate, has_pending: bool = False) -> None:
        self.name = name
        self.path = path
        self.spec = spec
        self.description = description
        self.runs: Tuple[Running, ...] = ()
        self.last_seen = LastSeen(spec)
        self._awaited: Tuple[Running, ...] = ()
        self._context = context
        self._gate = gate
        self._pending: List[Update] = []
        self._noted: Optional[Revision] = UNKNOWN if has_pending else None
        self._state = _State.READY

    @property
    def pending(self) -> Optional[Revision]:
        """The latest pending update, as noted for the next daemon."""
        return self._noted

    def take_over(self, runs: Sequence[Running]) -> None:
        """Treat runs of an earlier version, or of an earlier daemon, as its own."""
        for run in runs:
            if run not in self.runs:
                self.runs += (run,)
                self._awaited = _without(run, self._awaited)
                run.on_end(partial(self._ended, run))

    def wait_for(self, runs: Sequence[Running]) -> None:
        """Unless runs overlap, start nothing before these of other watches end."""
        for run in runs:
            if run not in self.runs and run not in self._awaited:
                self._awaited += (run,)
                run.on_end(partial(self._awaited_ended, run))

    def stop_waiting_for(self, run: Running) -> None:
        """The run belongs to another watch in force: do not wait for it any longer."""
        self.runs = _without(run, self.runs)
        self._awaited_ended(run)

    def continue_from(self, earlier: Watch, is_same: bool = False) -> None:
        """Continue where a closed version stopped. `is_same`: it asked for the same."""
        self.last_seen.continue_from(earlier.last_seen, is_same)
        self._noted = earlier._noted
        self.take_over(earlier.runs)
        self.wait_for(earlier._awaited)
        if self.spec.run_mode.overlaps or not self.last_seen.is_load_due:  # the load runs with the latest contents
            for update in earlier._pending:
                self._add_pending(update)
        if self._pending:
            self._proceed()
            self._note_pending()
        elif earlier._pending:
            self._note(earlier._pending[-1].revision)

    def close(self) -> None:
        """Start no more runs. Those in progress go on."""
        self._change_to(_State.CLOSED)
        self._gate.cancel(self._start_next)
        self._context.backlog.cancel(self)

    def on_state(self, state: ZnodeState) -> None:
        """The znode has been read. The state may be known already."""
        if self._state is _State.CLOSED:
            return
        if state.revision is None:
            if self.last_seen.is_deletion(state):
                log.info('%s: %s was deleted', self.description, self.spec.znode)
            self._note_pending()
        elif state.contents is not None:
            # An earlier daemon left an update pending, or it was left to the run at
            # load: any contents will do.
            is_pending = self._noted is not None and not self._pending
            event = self.last_seen.event(state.revision, is_pending)
            if event:
                self._updated(Update(event, state.contents, state.version, state.revision))
        self.last_seen.note(state)  # not earlier: if the update fails, this state is delivered again

    def _updated(self, update: Update) -> None:
        """Start a run for the update, let it wait, or drop it: the run mode decides."""
        mode = self.spec.run_mode
        # A load is no update: it is not dropped, but runs with the latest contents.
        if mode.drops_updates and self.runs and not self._noted and update.event is not Event.LOAD:
            log.debug('%s: %s (version %d) is discarded: a run is in progress', self.description, update.event.value,
                      update.version)
            for run in self.runs:
                if run.update:  # if that run cannot start after all, the retry has the latest contents
                    run.update = update
            return
        self._add_pending(update)
        if self._noted:  # before the start: if we are killed right after it, the earlier update must not be pending
            self._note_pending()
        if not mode.overlaps and (self.runs or self._awaited):
            log.debug('%s: %s (version %d) waits for the run in progress', self.description, update.event.value,
                      update.version)
            for run in (*self.runs, *self._awaited):
                run.awaited()
            if self.spec.notify_signal and not mode.drops_updates:
                for run in self.runs:
                    run.notify(self.spec.notify_signal)
        self._proceed()
        self._note_pending()

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
        try:
            run = self._context.start_run(self.name, self.spec, self.description, update)
        except Exception as error:  # no error may cost the update
            self._refused(update, error if isinstance(error, SpawnError) else SpawnError(f'no run: {error!r}', transient=True))
            self._note_pending()
            return None
        self.runs += (run,)
        self._note_pending()
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

    def _put_back(self, update: Update) -> None:
        """Make it pending again, unless a later one has replaced it: it got no run."""
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
        error = end.error
        self.runs = _without(run, self.runs)
        if error and run.update and self._state is not _State.CLOSED:
            self._refused(run.update, error)
            self._note_pending()
        elif error and run.update and error.transient:
            self._put_back(run.update)  # for the watch that continues from this one
        elif not error and self._state is _State.RETRYING:
            self._change_to(_State.READY)
        self._proceed()

    def _awaited_ended(self, run: Running, _: Optional[RunEnd] = None) -> None:
        self._awaited = _without(run, self._awaited)
        self._proceed()

    def _own_ended(self, run: Running, end: RunEnd) -> None:
        self._ended(run, end)
        self._gate.release()

    def _change_to(self, state: _State) -> None:
        """The one place where the state changes. CLOSED is final."""
        if self._state is not _State.CLOSED:
            self._state = state

    def _note_pending(self) -> None:
        """Note the latest pending update for the next daemon, if it has changed."""
        self._note(self._pending[-1].revision if self._pending else None)

    def _note(self, revision: Optional[Revision]) -> None:
        if revision != self._noted:
            self._noted = revision
            self._context.save_pending(self.name, revision)


def _without(run: Running, runs: Tuple[Running, ...]) -> Tuple[Running, ...]:
    return tuple(other for other in runs if other is not run)
