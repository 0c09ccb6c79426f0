"""Whether a state of a znode calls for a run, and as which event.

A state that is delivered again does not, since every new connection reads everything
again; but if an update is pending, any state does.
"""

from __future__ import annotations

from typing import Optional

from twitcher.config.spec import RunOnLoad, WatchSpec
from twitcher.run_record import Outcome
from twitcher.znode import (
    ABSENT,
    Contents,
    Event,
    LastStarted,
    Revision,
    Tree,
    TreeChanges,
    WatchType,
    ZnodeState,
)


class LastSeen:
    """The last state of its znode that a watch has seen; none at first.

    If the spec asks for a run on load, the first state that can be read calls for one.
    If it asks for that only after a change, that state has to differ from `basis`, for
    which the last run succeeded or is in progress.
    """

    __slots__ = ('change', '_revision', '_load')  # there may be tens of thousands

    def __init__(self, spec: WatchSpec, basis: Optional[Revision] = None) -> None:
        self.change = Event.CHILDREN if spec.watch_type is WatchType.CHILDREN else Event.CHANGED
        self._revision = basis
        self._load = spec.run_on_load

    def __bool__(self) -> bool:
        """Whether a state has been seen."""
        return self._revision is not None and self._load is not RunOnLoad.CHANGED

    @property
    def is_load_due(self) -> bool:
        """Whether the next state that can be read is a load."""
        return self._load is not RunOnLoad.NEVER

    def continue_from(self, earlier: LastSeen, is_same: bool) -> None:
        """Continue from what a version saw. `is_same`: it asked for the same."""
        if is_same:
            self._load = earlier._load
        if is_same or self._load is not RunOnLoad.CHANGED:
            self._revision = earlier._revision

    def is_deletion(self, state: ZnodeState) -> bool:
        """Whether the znode existed, and is gone now."""
        return state.revision is None and self._revision not in (None, ABSENT)

    def event(self, revision: Revision, is_pending: bool) -> Optional[Event]:
        """The change since the last state, if it calls for a run. With `is_pending`,
        every readable state does."""
        if self._load is RunOnLoad.ALWAYS or self._load is RunOnLoad.CHANGED and self._revision != revision:
            return Event.LOAD
        if is_pending:
            return self.change
        if self._revision is None or self._revision == revision:
            return None
        return Event.CREATED if self._revision.czxid != revision.czxid else self.change

    def contents(self, state: ZnodeState) -> Contents:
        """What a run for this state gets. It must be a state that can be read."""
        assert isinstance(state.contents, bytes)
        return state.contents

    def run_ended(self, outcome: Outcome) -> None:
        """A run of the watch has ended."""

    def note(self, state: ZnodeState) -> None:
        """Remember the state as the last one. A state that cannot be read does not
        replace an earlier one."""
        if state.revision is None:
            self._revision = ABSENT
            self._load = RunOnLoad.NEVER
        elif state.contents is not None:
            self._revision = state.revision
            self._load = RunOnLoad.NEVER
        elif self._revision is None and self._load is not RunOnLoad.CHANGED:
            self._revision = state.revision


class LastSeenTree(LastSeen):
    """The same for a tree. Also keeps the tree for which the last run was started.

    If the first state calls for a run, that run gets the whole tree; if not, the action
    is expected to know that state. With RETRY and RESTART, a run counts only if it is a
    success.
    """

    __slots__ = ('_last_started', '_is_known', '_may_repeat')

    def __init__(self, spec: WatchSpec, basis: Optional[Revision] = None) -> None:
        super().__init__(spec, basis)
        self._last_started = LastStarted()
        self._is_known = False
        self._may_repeat = spec.failure.times > 0 or spec.run_mode.restarts

    def continue_from(self, earlier: LastSeen, is_same: bool) -> None:
        """As LastSeen says."""
        super().continue_from(earlier, is_same)
        if isinstance(earlier, LastSeenTree) and not self.is_load_due:
            self._last_started = earlier._last_started

    def event(self, revision: Revision, is_pending: bool) -> Optional[Event]:
        """As LastSeen says."""
        event = super().event(revision, is_pending)
        self._is_known = not event and not self
        return event

    def contents(self, state: ZnodeState) -> Contents:
        """As LastSeen says."""
        assert isinstance(state.contents, Tree)
        return TreeChanges(state.contents, self._last_started)

    def run_ended(self, outcome: Outcome) -> None:
        """As LastSeen says."""
        if self._may_repeat and outcome is not Outcome.SUCCESS:
            self._last_started.withdraw()

    def note(self, state: ZnodeState) -> None:
        """As LastSeen says."""
        if self._is_known and isinstance(state.contents, Tree):
            self._last_started.tree = state.contents
        super().note(state)


def last_seen_for(spec: WatchSpec, basis: Optional[Revision]) -> LastSeen:
    """The LastSeen of a new watch with this spec."""
    return (LastSeenTree if spec.watch_type is WatchType.TREE else LastSeen)(spec, basis)
