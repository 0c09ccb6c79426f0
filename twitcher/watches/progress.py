"""The runs that a watch has in progress, and those of others that it waits for."""

from __future__ import annotations

from functools import partial
from typing import Optional, Sequence, Tuple

from twitcher.run_record import RunEnd
from twitcher.watches.context import Running


class InProgress:
    """The base of a watch. `runs` are its own; an earlier version of it or an earlier
    daemon may have started them."""

    __slots__ = ('runs', '_awaited')

    def __init__(self) -> None:
        self.runs: Tuple[Running, ...] = ()
        self._awaited: Tuple[Running, ...] = ()

    def _ended(self, run: Running, end: RunEnd) -> None:
        """A run has ended."""
        raise NotImplementedError

    def _proceed(self) -> None:
        """There is one run fewer to wait for."""
        raise NotImplementedError

    def take_over(self, runs: Sequence[Running]) -> None:
        """Treat runs of an earlier version, or of an earlier daemon, as its own."""
        for run in runs:
            if run not in self.runs:
                self.runs += (run,)
                self._awaited = without(run, self._awaited)
                run.on_end(partial(self._ended, run))

    def wait_for(self, runs: Sequence[Running]) -> None:
        """Unless runs overlap, start nothing before these of other watches end."""
        for run in runs:
            if run not in self.runs and run not in self._awaited:
                self._awaited += (run,)
                run.on_end(partial(self._awaited_ended, run))

    def stop_waiting_for(self, run: Running) -> None:
        """The run belongs to another watch in force: do not wait for it any longer."""
        self.runs = without(run, self.runs)
        self._awaited_ended(run)

    def await_runs(self) -> None:
        """An update waits for the end of all these runs."""
        for run in (*self.runs, *self._awaited):
            run.awaited()

    def end_runs(self) -> None:
        """End its own runs, because an update needs a new one."""
        for run in self.runs:
            run.terminate()

    def notify_runs(self, signum: int) -> None:
        """Send a signal to its own runs."""
        for run in self.runs:
            run.notify(signum)

    def _awaited_ended(self, run: Running, _: Optional[RunEnd] = None) -> None:
        self._awaited = without(run, self._awaited)
        self._proceed()


def without(run: Running, runs: Tuple[Running, ...]) -> Tuple[Running, ...]:
    """The other runs."""
    return tuple(other for other in runs if other is not run)
