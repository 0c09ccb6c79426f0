"""What a Watch needs when its logic alone is tested: a znode, a machine that starts runs, a clock turned by hand."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, List, Optional, Tuple

from twitcher.config.action import Exec
from twitcher.config.arguments import make_spec
from twitcher.config.spec import RunMode, WatchSpec
from twitcher.errors import SpawnError
from twitcher.run_record import RunEnd
from twitcher.watches.backlog import Backlog
from twitcher.watches.gates import gate_for
from twitcher.watches.retries import Retries
from twitcher.watches.slots import Slots
from twitcher.watches.watch import Watch, WatchContext
from twitcher.znode import Revision, Update, ZnodeState


class Znode:
    """A znode, as Subscriptions would tell of it. Each change has a zxid of its own."""

    def __init__(self) -> None:
        self.state = ZnodeState()
        self._zxid = 0

    def put(self, contents: str) -> ZnodeState:
        """Set it, making it if need be."""
        self._zxid += 1
        czxid = self.state.revision.czxid if self.state.revision else self._zxid
        self.state = ZnodeState(Revision(czxid, self._zxid, 0), contents.encode(), self.state.version + 1)
        return self.state

    def delete(self) -> ZnodeState:
        """Remove it."""
        self._zxid += 1
        self.state = ZnodeState()
        return self.state

    def hidden(self) -> ZnodeState:
        """What is reported while it may not be read."""
        return ZnodeState(self.state.revision)


class FakeRun:
    """A run that ends when the test says so."""

    def __init__(self, spec: WatchSpec, update: Update) -> None:
        self.spec = spec
        self.given = update
        self.update: Optional[Update] = update
        self.is_over = False
        self.signals: List[int] = []
        self._callbacks: List[Callable[[RunEnd], None]] = []

    def notify(self, signum: int) -> None:
        """As Running says."""
        self.signals.append(signum)

    def awaited(self) -> None:
        """As Running says."""

    def on_end(self, callback: Callable[[RunEnd], None]) -> None:
        """As Running says."""
        self._callbacks.append(callback)

    def end(self, error: Optional[SpawnError] = None) -> None:
        """The run is over; with an error, it could not be started."""
        assert not self.is_over
        self.is_over = True
        for callback in self._callbacks:
            callback(RunEnd(error=error))


class FakeMachine:
    """Starts runs, or fails to: `failures` are the next starts that fail, each true if the failure is transient.

    `saved_pending` has what was saved as pending, in order.
    """

    def __init__(self, limit: int = 256) -> None:
        self.slots = Slots(limit)
        self.runs: List[FakeRun] = []
        self.failures: Deque[bool] = deque()
        self.most_at_once = 0
        self.saved_pending: List[Optional[Revision]] = []
        self._now = 0.0
        self._alarms: List[Tuple[float, Callable[[], None]]] = []
        self.retries = Retries(self._later)
        self._context = WatchContext(self._start, lambda name, revision: self.saved_pending.append(revision),
                                     self.retries, Backlog())

    def watch(self, has_pending: bool = False, **arguments: Any) -> Watch:
        """A watch with these arguments of RegisterWatch."""
        spec = make_spec('/z', Exec('true'), **arguments)
        return Watch('name', '/etc/twitcher/w.twc', spec, 'w', self._context, gate_for(spec, self.slots), has_pending)

    def successor(self, watch: Watch, **arguments: Any) -> Watch:
        """A watch that takes the place of another one, as when its config has been edited."""
        watch.close()
        new = self.watch(**arguments)
        new.continue_from(watch)
        return new

    @property
    def active(self) -> List[FakeRun]:
        """The runs in progress, the oldest first."""
        return [run for run in self.runs if not run.is_over]

    @property
    def started(self) -> List[str]:
        """The contents that each run was given."""
        return [run.given.contents.decode() for run in self.runs]

    @property
    def events(self) -> List[str]:
        """The event that each run was started for."""
        return [run.given.event.value for run in self.runs]

    def end_all(self) -> None:
        """End runs until there are none."""
        while self.active:
            self.active[0].end()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        due = [callback for when, callback in self._alarms if when <= self._now]
        self._alarms = [alarm for alarm in self._alarms if alarm[0] > self._now]
        for callback in due:
            callback()

    def _start(self, name: str, spec: WatchSpec, description: str, update: Update) -> FakeRun:
        if self.failures:
            raise SpawnError('no run: the test says so', transient=self.failures.popleft())
        self.runs.append(FakeRun(spec, update))
        self.most_at_once = max(self.most_at_once, len(self.active))
        return self.runs[-1]

    def _later(self, seconds: float, callback: Callable[[], None]) -> Optional[object]:
        self._alarms.append((self._now + seconds, callback))
        return None


MODES = list(RunMode)
