"""What a Watch needs when its logic alone is tested: a znode, a machine that starts runs, a clock turned by hand."""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Deque, List, Optional

from twitcher.config.action import Exec
from twitcher.config.arguments import make_spec
from twitcher.config.spec import RunMode, WatchSpec
from twitcher.errors import SpawnError
from twitcher.run_record import LastRun, RunEnd
from twitcher.watches.backlog import Backlog
from twitcher.watches.context import WatchContext
from twitcher.watches.policies import Policies
from twitcher.watches.retries import Retries
from twitcher.watches.timing import Machine
from twitcher.watches.turns import Slots
from twitcher.watches.watch import Watch
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


class Alarm:
    """A call that is due at a moment."""

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        """As timing.Timer says."""
        self.is_cancelled = True


class FakeClock:
    """A clock turned by hand. What is due is called in order, each at its moment."""

    def __init__(self, now: float = 0.0) -> None:
        self._now = now
        self._alarms: List[Alarm] = []

    def time(self) -> float:
        """As timing.Clock says."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Alarm:
        """As timing.Clock says."""
        self._alarms.append(Alarm(self._now + delay, callback))
        return self._alarms[-1]

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self._now + seconds
        while True:
            due = min((alarm for alarm in self._alarms if alarm.when <= end), key=lambda alarm: alarm.when, default=None)
            if due is None:
                break
            self._alarms.remove(due)
            if not due.is_cancelled:
                self._now = max(self._now, due.when)
                due.callback()
        self._now = end


class FakeRun:
    """A run that ends when the test says so."""

    def __init__(self, spec: WatchSpec, update: Update) -> None:
        self.spec = spec
        self.given = update
        self.update: Optional[Update] = update
        self.is_over = self.is_terminated = False
        self.signals: List[int] = []
        self._callbacks: List[Callable[[RunEnd], None]] = []

    def notify(self, signum: int) -> None:
        """As Running says."""
        self.signals.append(signum)

    def terminate(self) -> None:
        """As Running says."""
        self.is_terminated = True

    def awaited(self) -> None:
        """As Running says."""

    def on_end(self, callback: Callable[[RunEnd], None]) -> None:
        """As Running says."""
        self._callbacks.append(callback)

    def end(self, error: Optional[SpawnError] = None, code: Optional[int] = 0, is_overdue: bool = False) -> None:
        """The run is over, with this exit code; with an error, it could not be started."""
        assert not self.is_over
        self.is_over = True
        if not error:
            self.update = None
        for callback in self._callbacks:
            callback(RunEnd(code, error, is_overdue, self.is_terminated, self.spec.failure.ok_codes))


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
        self.stopped: Optional[int] = None
        self.clock = FakeClock()
        self.retries = Retries(self.clock.call_later)
        self.policies = Policies(self.slots, Machine(self.clock, 'host'))
        self._context = WatchContext(self._start, lambda name, revision: self.saved_pending.append(revision), self._stopped,
                                     self.retries, Backlog())

    def watch(self, has_pending: bool = False, last: Optional[LastRun] = None, has_runs: bool = False,
              earlier: Optional[Watch] = None, is_same: bool = False, **arguments: Any) -> Watch:
        """A watch with these arguments of RegisterWatch."""
        spec = make_spec('/z', Exec('true'), **arguments)
        beginning = self.policies.beginning('name', spec, last, has_runs, is_first=not earlier)
        watch = Watch('name', '/etc/twitcher/w.twc', spec, 'w', self._context, self.policies.gate(spec, beginning.schedule),
                      beginning.schedule, beginning.basis, has_pending or beginning.has_retry)
        if earlier:
            watch.continue_from(earlier, is_same)
        watch.open()
        return watch

    def successor(self, watch: Watch, **arguments: Any) -> Watch:
        """A watch that takes the place of another one, as when its config has been edited."""
        watch.close()
        return self.watch(earlier=watch, **arguments)

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
        self.clock.advance(seconds)

    def _stopped(self, name: str, digest: Optional[int]) -> None:
        self.stopped = digest

    def _start(self, name: str, spec: WatchSpec, description: str, update: Update) -> FakeRun:
        if self.failures:
            raise SpawnError('no run: the test says so', transient=self.failures.popleft())
        self.runs.append(FakeRun(spec, update))
        self.most_at_once = max(self.most_at_once, len(self.active))
        return self.runs[-1]


MODES = [RunMode.QUEUE, RunMode.DISCARD, RunMode.PARALLEL]
