"""What a watch is handed: how to start a run, what the next daemon is to know, and what
all watches share."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional, Protocol

from twitcher.config.spec import WatchSpec
from twitcher.run_record import RunEnd
from twitcher.watches.backlog import Backlog
from twitcher.watches.retries import Retries
from twitcher.znode import Revision, Update


class Running(Protocol):
    """A run in progress. `update` is what it runs for, until its process exists."""

    update: Optional[Update]

    def notify(self, signum: int) -> None:
        """Send the signal to the process itself."""

    def terminate(self) -> None:
        """End the run, because an update needs a new one."""

    def awaited(self) -> None:
        """From now on an update waits for the end of this run."""

    def on_end(self, callback: Callable[[RunEnd], None]) -> None:
        """Call back once, when the run has ended and the state has noted that."""


class WatchContext(NamedTuple):
    """The parts that all watches share.

    `start_run(name, spec, description, update)` starts a run of the watch with this
    name, or raises SpawnError. `save_pending(name, revision)` notes its latest pending
    update; None if there is none. `save_stopped(name, digest)` notes that it was
    stopped with a spec of this digest; None if it was resumed. `retries` repeats starts
    that the machine refused. `backlog` limits the pending updates of all watches in
    PARALLEL mode.
    """

    start_run: Callable[[str, WatchSpec, str, Update], Running]
    save_pending: Callable[[str, Optional[Revision]], None]
    save_stopped: Callable[[str, Optional[int]], None]
    retries: Retries
    backlog: Backlog
