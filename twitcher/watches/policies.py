"""What a new watch gets besides its spec: its gate, its schedule, and what is known of
its last run."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, NamedTuple, Optional

from twitcher.config.spec import RunOnLoad, WatchSpec
from twitcher.run_record import LastRun, RunRecord
from twitcher.watches.context import Running
from twitcher.watches.gates import ALWAYS_OPEN, Gate, Row
from twitcher.watches.timing import Machine
from twitcher.watches.turns import Locks, Turns
from twitcher.znode import UNKNOWN, Revision

if TYPE_CHECKING:
    from twitcher.watches.schedule import Schedule


class Beginning(NamedTuple):
    """What a watch begins with, according to its last run. `basis` is for LastSeen.

    `has_retry`: the last run is to be retried. `is_resumed`: the watch was stopped, but
    no longer is.
    """

    schedule: Optional[Schedule]
    basis: Optional[Revision] = None
    has_retry: bool = False
    is_resumed: bool = False


class Policies:
    """Makes the gates and schedules of all watches. Those in PARALLEL mode share the
    `slots`."""

    def __init__(self, slots: Turns, machine: Machine) -> None:
        self._slots = slots
        self._machine = machine
        self._locks = Locks()

    def count(self, record: RunRecord, run: Running) -> None:
        """A run of an earlier daemon is in progress: it holds its slot and its lock
        until it ends."""
        gates = [self._slots] if record.has_slot else []
        if record.lock is not None:
            gates.append(self._locks.lock(record.lock))
        for gate in gates:
            gate.count()
            run.on_end(lambda _, gate=gate: gate.release())  # type: ignore[misc]  # the default binds it

    def gate(self, spec: WatchSpec, schedule: Optional[Schedule]) -> Gate:
        """The gate that a due update has to pass."""
        gates: List[Gate] = [self._slots] if spec.run_mode.overlaps else []
        if spec.timing.lock is not None and schedule:
            return Row([self._locks.lock(spec.timing.lock), *gates], schedule.log_wait)
        return gates[0] if gates else ALWAYS_OPEN

    def beginning(self, name: str, spec: WatchSpec, last: Optional[LastRun], has_runs: bool, is_first: bool) -> Beginning:
        """What a new watch begins with.

        `has_runs`: runs of it are in progress. `is_first`: this daemon has had no
        earlier version of it.
        """
        if not spec.has_policies:
            return Beginning(None, is_resumed=last is not None and last.stopped is not None)
        from twitcher.watches.schedule import Schedule  # most daemons have no watch that needs it

        schedule = Schedule(name, spec, self._machine, last)
        if not last:
            return Beginning(schedule)
        basis = None
        if spec.run_on_load is RunOnLoad.CHANGED and last.revision:
            is_in_progress = has_runs and not last.has_ended
            basis = last.revision if last.failed is False or is_in_progress else UNKNOWN
            if is_in_progress:
                schedule.load_after_failure()
        has_retry = is_first and not has_runs and schedule.retry_after(last)
        return Beginning(schedule, basis, has_retry, last.stopped is not None and not schedule.is_stopped)
