"""Whether a state of a znode calls for a run, and as which event.

A state that is delivered again does not, since every new connection reads everything
again; but if an update is pending, any state does.
"""

from __future__ import annotations

from typing import Optional

from twitcher.config.spec import RunOnLoad, WatchSpec
from twitcher.znode import ABSENT, Event, Revision, WatchType, ZnodeState


class LastSeen:
    """The last state of its znode that a watch has seen; none at first.

    If the spec asks for a run on load, the first state that can be read is run for. If
    it asks for one after a change only, that state has to differ from `basis`, for which
    the last run has succeeded.
    """

    __slots__ = ('change', '_revision', '_load')  # there may be tens of thousands

    def __init__(self, spec: WatchSpec, basis: Optional[Revision] = None) -> None:
        self.change = Event.CHANGED if spec.watch_type is WatchType.DATA else Event.CHILDREN
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
