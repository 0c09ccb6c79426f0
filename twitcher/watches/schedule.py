"""Decides when the updates of one watch are due, and what follows the end of a run.

Carries out the table in states.py, over a clock that is handed in. A watch whose spec
has no policies has no Schedule: its updates are due at once, and nothing follows a run.
"""

from __future__ import annotations

from math import inf
from typing import Callable, Dict, Optional, Protocol, Sequence, Tuple

from twitcher.config.spec import Then, WatchSpec
from twitcher.log import get_logger
from twitcher.run_record import LastRun, Outcome, RunEnd, describe
from twitcher.watches.gates import Row, Wait
from twitcher.watches.states import TABLE, Action, State, Trigger
from twitcher.watches.timing import Backoff, Machine, Repeat, delays
from twitcher.znode import UNKNOWN, Event, Revision, Update

log = get_logger(__name__)

_FOR_ANY_STATE = (Event.LOAD, Event.REPEAT, Event.DELETED)


class Owner(Protocol):
    """The watch of a schedule."""

    description: str
    path: str

    def due(self, update: Update) -> None:
        """Run for the update as soon as runs in progress and the gate allow."""

    def withdraw(self) -> None:
        """Drop what is due, and note that the watch is stopped."""

    def note_pending(self) -> None:
        """Note for the next daemon what is pending."""


class Schedule:
    """The schedule of the watch with this name.

    `last` is the watch's last run, if an earlier daemon or an earlier version of the
    watch started one. `attempt` is the number of the last run that was started, counted
    from the first one for its update.
    """

    __slots__ = ('_spec', '_clock', '_owner', '_delays', '_backoff', '_repeat', '_state', '_held', '_newest', 'attempt',
                 '_revision', '_carried', '_failure', '_is_gone', '_awaits_state', '_reloads_on_failure', '_has_opened')

    def __init__(self, name: str, spec: WatchSpec, machine: Machine, last: Optional[LastRun] = None) -> None:
        self._spec = spec
        self._clock = machine.clock
        self._owner: Optional[Owner] = None
        self._delays = Row(delays(name, spec, machine), self.log_wait)
        self._backoff = Backoff(machine.clock, spec.failure) if spec.failure.times else None
        self._repeat = Repeat(machine.clock, spec.timing.repeat) if spec.timing.repeat else None
        is_stopped = last is not None and last.stopped is not None and last.stopped == spec.digest
        self._state = State.STOPPED if is_stopped else State.IDLE
        self._held: Optional[Update] = None
        self._newest: Optional[Update] = None
        self.attempt = last.attempt if last else 1
        self._revision = last.revision if last else None
        self._carried: Optional[Tuple[Optional[Revision], int]] = None
        self._failure = ''
        self._is_gone = self._awaits_state = self._has_opened = self._reloads_on_failure = False

    @property
    def is_stopped(self) -> bool:
        """Whether a failure has stopped the watch."""
        return self._state is State.STOPPED

    @property
    def wait(self) -> Optional[Wait]:
        """What the next run waits for before it is due."""
        for gate in (self._delays, self._backoff, self._repeat):
            wait = gate.wait(self._open) if gate else None
            if wait:
                return wait
        return None

    @property
    def held(self) -> Optional[Update]:
        """The update that is not due yet."""
        return self._held

    @property
    def has_pending(self) -> bool:
        """Whether anything is pending that is not due yet."""
        return self._state is State.STOPPED or self._awaits_state or self._held is not None

    def pending_revision(self, due: Sequence[Update], noted: Optional[Revision]) -> Optional[Revision]:
        """The revision to note as pending. `due` has the latest update that is due, if
        any is.

        It is UNKNOWN if a run may have been started for the same revision before, so
        that the next daemon does not mistake that run for this one. It stays UNKNOWN
        until nothing is pending.
        """
        if not self.has_pending and not due:
            return None
        update = self._held or (due[-1] if due else None)
        is_first = update is not None and update.attempt == 1 and update.event not in _FOR_ANY_STATE and noted != UNKNOWN
        return update.revision if update and is_first else UNKNOWN

    def replaces_refused(self) -> bool:
        """Whether an update whose run could not be started needs no run any more."""
        is_later = self._held is not None and not self._spec.run_mode.overlaps
        return self._state is State.STOPPED or is_later

    def attach(self, owner: Owner) -> None:
        """Serve this watch from now on."""
        self._owner = owner
        if self._state is State.STOPPED:
            log.warning('%s: stopped (on_failure): %s', owner.description, _resume(owner))
            owner.withdraw()
        if self._has_opened:
            self._has_opened = False
            self._handle(Trigger.OPEN)
        elif self.has_pending:
            owner.note_pending()

    def detach(self) -> None:
        """The watch is closed. Delays go on: a new version may continue with them."""
        self._owner = None

    def retry_after(self, last: LastRun) -> bool:
        """Whether the last run, of an earlier daemon, is to be retried now. The count
        goes on."""
        is_due = (last.has_ended and last.failed is not False and last.attempt <= self._spec.failure.times
                  and self._state is not State.STOPPED)
        if is_due:
            self._carried = (last.revision, last.attempt)
        return is_due

    def next_attempt(self, revision: Revision) -> int:
        """The number of the attempt for the first state that calls for a run: the count
        goes on if the last run failed for the same one."""
        carried, self._carried = self._carried, None
        return carried[1] + 1 if carried and carried[0] == revision else 1

    def load_after_failure(self) -> None:
        """The run in progress may be for the state that is to be loaded: if it fails,
        load that state."""
        self._reloads_on_failure = True

    def see(self, update: Update) -> None:
        """Remember the newest state, whether or not it calls for a run."""
        self._is_gone = update.event is Event.DELETED
        is_needed = self._spec.failure.times or self._spec.timing.repeat or self._reloads_on_failure
        if is_needed and (not self._newest or self._newest.revision != update.revision):
            self._newest = update

    def update(self, update: Update) -> None:
        """An update, or the load, calls for a run."""
        self._held = update
        self._awaits_state = self._reloads_on_failure = False
        self._handle(Trigger.UPDATE)

    def rest(self) -> None:
        """The load needs no run, and none is in progress: repeat begins."""
        if self._state is State.IDLE and self._can_repeat():
            self._handle(Trigger.REPEAT)

    def delete(self) -> None:
        """The znode is gone."""
        self._is_gone, self._awaits_state = True, False
        self._handle(Trigger.DELETION)

    def start(self, update: Update) -> None:
        """A run is started for the update."""
        self.attempt, self._revision = update.attempt, update.revision
        if self._newest and self._newest.revision == update.revision:
            self._newest = update

    def end(self, end: RunEnd, has_more: bool) -> None:
        """A run has ended; `has_more` if another one is due or in progress."""
        self._failure = describe(end)
        self._handle(self._trigger(end.outcome, has_more))

    def _trigger(self, outcome: Outcome, has_more: bool) -> Trigger:
        policy = self._spec.failure
        has_failed = outcome is Outcome.FAILURE or outcome is Outcome.UNKNOWN
        if has_failed and self.attempt <= policy.times:
            if has_more or self._newest:
                return Trigger.OVER if has_more else Trigger.RETRY
            self._carried, self._awaits_state = (self._revision, self.attempt), True
            return Trigger.OVER
        if outcome is Outcome.FAILURE and policy.then is Then.STOP:
            return Trigger.STOP
        if has_failed and policy.times and self._owner:
            log.warning('%s: %s; gave up after %d attempts', self._owner.description, self._failure, self.attempt)
        reloads, self._reloads_on_failure = self._reloads_on_failure, False
        if has_failed and reloads and not has_more:
            self._held = self._newest.again(Event.LOAD) if self._newest else None
            self._awaits_state = not self._held
            return Trigger.UPDATE if self._held else Trigger.OVER
        return Trigger.REPEAT if not has_more and self._can_repeat() else Trigger.OVER

    def _can_repeat(self) -> bool:
        return bool(self._repeat and self._newest) and not self._is_gone

    def _open(self) -> None:
        if self._owner:
            self._handle(Trigger.OPEN)
        else:
            self._has_opened = True

    def _handle(self, trigger: Trigger) -> None:
        """The one place where the state changes."""
        action, self._state = TABLE[self._state][trigger]
        _METHODS[action](self)
        if self._owner and self.has_pending:
            self._owner.note_pending()

    def _nothing(self) -> None:
        pass

    def _delay(self) -> None:
        self._delays.acquire(self._open, self._held)

    def _start_anew(self) -> None:
        self._give_up()
        self._delay()

    def _give_up(self) -> None:
        self._has_opened = False
        self._delays.cancel(self._open)
        for gate in (self._backoff, self._repeat):
            if gate:
                gate.cancel(self._open)

    def _pass(self) -> None:
        held, self._held = self._held, None
        assert held and self._owner
        self._delays.release()
        self._owner.due(held)

    def _back_off(self) -> None:
        assert self._newest and self._backoff
        self._give_up()
        self._held = self._newest.again(self._newest.event, self.attempt + 1)
        self._backoff.acquire(self._open, self._held)
        wait, times = self._backoff.wait(self._open), self._spec.failure.times
        if self._owner and wait and wait.until is not None:
            log.warning('%s: %s, attempt %d%s in %.1f s', self._owner.description, self._failure, self.attempt + 1,
                        '' if times == inf else f' of {times + 1:.0f}', wait.until - self._clock.time())

    def _repeat_later(self) -> None:
        assert self._repeat
        self._repeat.acquire(self._open, self._newest)

    def _repeat_now(self) -> None:
        assert self._newest
        self._held = self._newest.again(Event.REPEAT)
        self._delay()

    def _stop(self) -> None:
        self._give_up()
        self._held = None
        if self._owner:
            log.error('%s: %s: stopped (on_failure): %s', self._owner.description, self._failure, _resume(self._owner))
            self._owner.withdraw()

    def _remember(self) -> None:
        self._held = None

    def log_wait(self, wait: Wait, update: Optional[Update]) -> None:
        """Log once what the watch waits for from now on."""
        if not self._owner:
            return
        if wait.until is None or not update:
            log.info('%s: waits for %s', self._owner.description, wait.reason)
        else:
            log.info('%s: %s (version %d) runs in %.1f s (%s)', self._owner.description, update.event.value, update.version,
                     wait.until - self._clock.time(), wait.reason)


_METHODS: Dict[Action, Callable[[Schedule], None]] = {
    Action.NOTHING: Schedule._nothing,
    Action.DELAY: Schedule._delay,
    Action.JOIN: Schedule._delay,
    Action.START_ANEW: Schedule._start_anew,
    Action.PASS: Schedule._pass,
    Action.BACK_OFF: Schedule._back_off,
    Action.REPEAT_LATER: Schedule._repeat_later,
    Action.REPEAT: Schedule._repeat_now,
    Action.FORGET: Schedule._give_up,
    Action.STOP: Schedule._stop,
    Action.REMEMBER: Schedule._remember,
}


def _resume(owner: Owner) -> str:
    return f'it runs again when it is changed in {owner.path}'
