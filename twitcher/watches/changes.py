"""Whether a state of a znode calls for a run, and as which event.

A state that is delivered again never does: a new connection reads everything again.
"""

from __future__ import annotations

from typing import Optional

from twitcher.config.spec import RunOnLoad, WatchSpec
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

    If the spec asks for a run on load, the first state that can be read is run for.
    """

    __slots__ = ('_change', '_revision', 'is_load_due')  # there may be tens of thousands

    def __init__(self, spec: WatchSpec) -> None:
        self._change = Event.CHILDREN if spec.watch_type is WatchType.CHILDREN else Event.CHANGED
        self._revision: Optional[Revision] = None
        self.is_load_due = spec.run_on_load is not RunOnLoad.NEVER

    def __bool__(self) -> bool:
        """Whether a state has been seen."""
        return self._revision is not None

    def continue_from(self, earlier: LastSeen, is_same: bool) -> None:
        """Go on from what an earlier version of the watch has seen; `is_same` if it asked for the same."""
        self._revision = earlier._revision
        if is_same:
            self.is_load_due = earlier.is_load_due

    def is_deletion(self, state: ZnodeState) -> bool:
        """Whether the znode was there, and is not any more."""
        return state.revision is None and self._revision not in (None, ABSENT)

    def event(self, revision: Revision, is_pending: bool) -> Optional[Event]:
        """What has happened since, if it calls for a run; `is_pending` if any state does that can be read."""
        if self.is_load_due:
            return Event.LOAD
        if is_pending:
            return self._change
        if self._revision is None or self._revision == revision:
            return None
        return Event.CREATED if self._revision.czxid != revision.czxid else self._change

    def contents(self, state: ZnodeState) -> Contents:
        """What an update to this state brings, which can be read."""
        assert isinstance(state.contents, bytes)
        return state.contents

    def note(self, state: ZnodeState) -> None:
        """This is the last state now. One that cannot be read does not take the place of another."""
        if state.revision is None:
            self._revision = ABSENT
            self.is_load_due = False
        elif state.contents is not None:
            self._revision = state.revision
            self.is_load_due = False
        elif self._revision is None:
            self._revision = state.revision


class LastSeenTree(LastSeen):
    """The same for a tree, with the tree for which the last run was started.

    All that was there before the first update counts as known, unless the first state
    is run for: that run is told the whole tree.
    """

    __slots__ = ('_last_started', '_is_known')

    def __init__(self, spec: WatchSpec) -> None:
        super().__init__(spec)
        self._last_started = LastStarted()
        self._is_known = False

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

    def note(self, state: ZnodeState) -> None:
        """As LastSeen says."""
        if self._is_known and isinstance(state.contents, Tree):
            self._last_started.tree = state.contents
        super().note(state)


def last_seen_for(spec: WatchSpec) -> LastSeen:
    """What a watch with this spec has seen: nothing yet."""
    return LastSeenTree(spec) if spec.watch_type is WatchType.TREE else LastSeen(spec)
