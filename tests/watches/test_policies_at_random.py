"""Random histories of watches with policies, against a small model that says what must run, when and as which attempt.

The watches, their gates and their state are real; ZooKeeper, the processes and the clock
are the test's. The model knows no gates and no states: for each watch it keeps the one
moment from which a run has to start. `python -m tests.watches.test_policies_at_random
20000` plays so many histories, which takes a quarter of an hour.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from tests.support.fake_machine import FakeClock, FakeRun, Znode
from twitcher.config.action import Exec
from twitcher.config.arguments import RETRY, make_spec
from twitcher.config.spec import RunMode, RunOnLoad, Then, WatchSpec
from twitcher.run_record import Outcome, RunEnd, RunRecord
from twitcher.state import State
from twitcher.watches.backlog import Backlog
from twitcher.watches.context import WatchContext
from twitcher.watches.policies import Policies
from twitcher.watches.registry import Watches, _key
from twitcher.watches.retries import Retries
from twitcher.watches.timing import Machine, splay_delay
from twitcher.watches.turns import Slots
from twitcher.znode import ABSENT, Event, Revision, Update, ZnodeState

ZNODES = ('/y', '/z')
SOON = 1e-6


class Last(NamedTuple):
    """The last run of a job, as far as anybody can know of it. `failed` is None if it is not known."""

    revision: Revision
    attempt: int = 1
    has_ended: bool = False
    failed: Optional[bool] = None


@dataclass
class Want:
    """A run that has to start at the moment `at`, if nothing else hinders it; before `quiet`, updates put it off."""

    event: Event
    attempt: int
    first: float
    quiet: float
    at: float
    is_retry: bool = False


@dataclass
class Job:
    """A watch, and what must happen to it."""

    command: str
    znode: str
    options: Dict[str, Any] = field(default_factory=dict)
    want: Optional[Want] = None
    is_stopped: bool = False
    is_owed: bool = False
    load: RunOnLoad = RunOnLoad.NEVER
    seen: Optional[Revision] = None
    newest: Optional[str] = None
    event: Event = Event.CHANGED
    is_gone: bool = False
    running: List[FakeRun] = field(default_factory=list)
    last: Optional[Last] = None
    carried: Optional[Tuple[Revision, int]] = None
    repeat_at: Optional[float] = None
    is_load_open: bool = False
    is_basis: bool = False
    since: float = 0.0

    @property
    def spec(self) -> WatchSpec:
        """Its RegisterWatch."""
        return make_spec(self.znode, Exec(self.command), **self.options)

    @property
    def splay(self) -> float:
        """Its delay on this host."""
        name = f'{self.name} 1'
        return splay_delay('host', name, self.spec.timing.splay)

    @property
    def name(self) -> str:
        """What the watch is called, without the number."""
        return _key(self.spec)

    def is_ready(self, now: float) -> bool:
        """Whether a run has to start now, unless something hinders it."""
        return self.want is not None and self.want.at <= now + SOON

    def catch_up(self, now: float) -> None:
        """A repetition may have become due."""
        if self.repeat_at is not None and self.repeat_at <= now + SOON:
            at, self.repeat_at = self.repeat_at, None
            self.event = Event.REPEAT
            self.want = Want(Event.REPEAT, 1, at, at, at + self.splay)

    def update(self, event: Event, now: float, attempt: int = 1, is_new: bool = True) -> None:
        """An update, or the load."""
        spec, want = self.spec, self.want
        self.event = event
        is_owed, self.is_owed = self.is_owed, self.is_owed and self.is_stopped
        if self.is_stopped:
            return
        is_dropped = spec.run_mode.drops_updates and self.running and not want and not is_owed and event is not Event.LOAD
        if is_dropped and is_new:
            return
        self.is_load_open = False
        self.repeat_at = None
        if want and self.is_ready(now):
            want.event, want.attempt = event, attempt
        elif want and not want.is_retry:
            if now < want.quiet - SOON:
                want.quiet = min(now + spec.timing.settle, want.first + 10 * spec.timing.settle)
                want.at = want.quiet + self.splay
            want.event, want.attempt = event, attempt
        else:
            quiet = now if event in (Event.LOAD, Event.REPEAT) or attempt > 1 else now + spec.timing.settle
            self.want = Want(event, attempt, now, quiet, quiet + (0 if attempt > 1 else self.splay))

    def read(self, state: ZnodeState, now: float) -> None:
        """The daemon has read the znode."""
        if state.revision is None:
            is_new = self.seen not in (None, ABSENT)
            self.is_gone, self.repeat_at = True, None
            if self.spec.run_on_delete and (is_new or self.is_owed and not self.want):
                self.newest = ''
                self.update(Event.DELETED, now)
            else:
                self.is_owed = self.is_owed and self.is_stopped
            self.seen = ABSENT
        else:
            contents = (state.contents or b'').decode()
            event = self._event(state.revision)
            self.is_gone = False
            if event:
                self.newest = contents
                carried, self.carried = self.carried, None
                is_same = carried is not None and carried[0] == state.revision
                self.update(event, now, carried[1] + 1 if carried and is_same else 1)
            else:
                self.newest = contents
                if not self.running and not self.want and self.repeat_at is None and not self.is_stopped:
                    self.repeat_at = now + self.spec.timing.repeat if self.spec.timing.repeat else None
            self.seen = state.revision
        self.load = RunOnLoad.NEVER

    def _event(self, revision: Revision) -> Optional[Event]:
        if self.load is RunOnLoad.ALWAYS or self.load is RunOnLoad.CHANGED and self.seen != revision:
            return Event.LOAD
        if self.is_owed and not self.want:
            return Event.CHANGED
        if self.seen is None or self.seen == revision:
            return None
        return Event.CHANGED if self.seen.czxid == revision.czxid else Event.CREATED

    def start(self, run: FakeRun, now: float) -> None:
        """A run has started: the model agrees, or the test fails."""
        self.catch_up(now)
        update, want = run.given, self.want
        assert want, f'{self.command} runs without a cause: {update.event}'
        assert self.is_ready(now), f'{self.command} runs at {now}, not at {want.at}'
        expected = (want.event, want.attempt, self.newest)
        assert (update.event, update.attempt, update.contents.decode()) == expected, f'{self.command}: not {expected}'
        assert not self.running or self.spec.run_mode.overlaps, f'{self.command} overlaps'
        self.want, self.event = None, want.event
        self.last = Last(update.revision, update.attempt)
        self.running.append(run)

    def end(self, run: FakeRun, end: RunEnd, now: float) -> None:
        """A run has ended, and the daemon sees it."""
        self.catch_up(now)
        self.running.remove(run)
        assert self.last
        outcome, policy = end.outcome, self.spec.failure
        self.note(outcome)
        has_failed = outcome in (Outcome.FAILURE, Outcome.UNKNOWN)
        if self.is_stopped:
            return
        if has_failed and self.last.attempt <= policy.times:
            has_more = self.is_ready(now) or self.running
            if not has_more and not self.want and self.newest is None:
                self.carried, self.is_owed = (self.last.revision, self.last.attempt), True
            elif not has_more and not self.want:
                delay = min(policy.delay * policy.backoff ** (self.last.attempt - 1), policy.max_delay)
                self.repeat_at = None
                self.want = Want(self.event, self.last.attempt + 1, now, now, now + delay, is_retry=True)
            return
        if outcome is Outcome.FAILURE and policy.then is Then.STOP:
            self.want, self.repeat_at, self.is_stopped, self.is_owed = None, None, True, True
            return
        is_load_open, self.is_load_open = self.is_load_open, False
        if self.is_ready(now) or self.running:
            return
        if has_failed and is_load_open:
            if self.newest is None:
                self.is_owed = True
            else:
                self.update(Event.LOAD, now, is_new=False)
        elif self.spec.timing.repeat and self.newest is not None and not self.is_gone and not self.want:
            self.repeat_at = now + self.spec.timing.repeat

    def note(self, outcome: Outcome) -> None:
        """The state knows of the end."""
        assert self.last
        self.last = self.last._replace(has_ended=True, failed={Outcome.SUCCESS: False, Outcome.FAILURE: True}.get(outcome))

    def begin(self, now: float) -> None:
        """Its spec comes into force anew."""
        last, is_in_progress = self.last, bool(self.running) and self.last is not None and not self.last.has_ended
        self.load, self.repeat_at, self.newest = self.spec.run_on_load, None, None
        self.is_load_open = self.load is RunOnLoad.CHANGED and is_in_progress
        if self.load is RunOnLoad.CHANGED:
            self.seen = None
            if last:
                self.seen = last.revision if last.failed is False or is_in_progress else Revision(-9, -9, -9)
        self.carried, self.event = None, Event.CHANGED

    def edit(self, options: Dict[str, Any], now: float) -> None:
        """The file asks for something else."""
        was, is_ready = self.want, self.is_ready(now)
        newest = self.newest
        self.options, self.want, self.is_stopped = options, None, False
        self.begin(now)
        self.newest = newest if was and (self.load is RunOnLoad.NEVER or self.spec.run_mode.overlaps) else None
        if self.load is not RunOnLoad.NEVER and not self.spec.run_mode.overlaps:
            self.is_owed = self.is_owed or was is not None
        elif was and is_ready:
            self.want = was
        elif was:
            self.update(was.event, now, is_new=False)

    def restart(self, now: float) -> None:
        """Another daemon begins to read the file."""
        self.is_owed = self.is_owed or self.want is not None
        self.want, self.seen, self.is_gone = None, None, False
        self.begin(now)
        last = self.last
        has_failed = last is not None and last.has_ended and last.failed is not False
        if last and has_failed and last.attempt <= self.spec.failure.times and not self.is_stopped and not self.running:
            self.carried, self.is_owed = (last.revision, last.attempt), True


class World:
    """Jobs, each in a file, and the daemon that has read them."""

    def __init__(self, directory: Path, jobs: List[Job]) -> None:
        self.clock = FakeClock(100.0)
        self.znodes = {path: Znode() for path in ZNODES}
        self.version = 0
        self.runs: List[Tuple[Job, FakeRun, RunRecord]] = []
        self.disagreements: List[AssertionError] = []
        self._directory = directory
        self.jobs = jobs
        self.files = {f'/nowhere/{job.command}.twc': job for job in jobs}
        self.is_connected = True

    @property
    def now(self) -> float:
        """The time."""
        return self.clock.time()

    def start(self) -> None:
        """A daemon, on what the earlier one has left."""
        self.state = State(str(self._directory), '/nowhere', 'boot', self.clock.call_later)
        self.listeners: List[Tuple[str, Any]] = []
        context = WatchContext(self._start_run, self.state.save_pending, self.state.save_stopped,
                               Retries(self.clock.call_later), Backlog())
        policies = Policies(Slots(256), Machine(self.clock, 'host'))
        self.watches = Watches('/nowhere', self, self.state, context, policies, self.clock.call_later)
        self.state.in_force = self.watches.in_force
        for record in self.state.unfinished():
            job, run, _ = self.runs[record.pipe]
            if run.is_over:
                self.state.run_ended(record, RunEnd())
                job.running.remove(run)
                job.note(Outcome.UNKNOWN)
            else:
                run.on_end(partial(self._note_end, record))
                self.watches.add_reattached(record, run)
        for job in self.jobs:
            job.restart(self.now)
            job.since = self.now
        for path in self.files:
            self.read(path)
        self.deliver()

    def subscribe(self, path: str, watch_type: object, listener: Any) -> None:
        """As Subscriptions says."""
        self.listeners.append((path, listener))

    def unsubscribe(self, path: str, watch_type: object, listener: Any) -> None:
        """As Subscriptions says."""
        self.listeners.remove((path, listener))

    def read(self, path: str) -> None:
        """The daemon reads a file."""
        self.watches.replace(path, [self.files[path].spec], is_same_text=False)

    def stop(self, is_killed: bool) -> None:
        """The daemon ends; its runs go on."""
        if not is_killed:
            self.watches.close()
        self.state.close()
        self.clock._alarms.clear()
        for _, run, _ in self.runs:
            run._callbacks.clear()

    def path(self, job: Job) -> str:
        """The file of a job."""
        return next(path for path, other in self.files.items() if other is job)

    def active(self) -> List[FakeRun]:
        """The runs in progress."""
        return [run for _, run, _ in self.runs if not run.is_over]

    def put(self, path: str) -> None:
        """A change of a znode."""
        self.version += 1
        self.znodes[path].put(str(self.version))

    def deliver(self) -> None:
        """The daemon reads the znodes: first the model, as runs may start at once."""
        if self.is_connected:
            for path, listener in self.listeners[:]:
                for job in self.jobs:
                    if job.znode == path and listener.__self__.spec.action == Exec(job.command):
                        job.catch_up(self.now)
                        job.read(self.znodes[path].state, self.now)
                listener(self.znodes[path].state)

    def _start_run(self, name: str, spec: WatchSpec, description: str, update: Update) -> FakeRun:
        try:
            return self._started(name, spec, update)
        except AssertionError as error:  # which a watch would take for a machine that refuses to start it
            self.disagreements.append(error)
            raise

    def _started(self, name: str, spec: WatchSpec, update: Update) -> FakeRun:
        job, = (job for job in self.jobs if spec.action == Exec(job.command))
        run = FakeRun(spec, update)
        lock = spec.timing.lock
        for other in self.jobs:
            other.catch_up(self.now)
        assert lock is None or not self._is_held(lock), f'{job.command}: {lock} is held'
        earlier = [other.command for other in self._waiting_for(lock) if other.since < job.since - SOON and other is not job]
        assert lock is None or not earlier, f'{job.command}: {earlier} came first'
        job.start(run, self.now)
        record = RunRecord(self.state.new_run_id(), name, job.command, len(self.runs), 0.0, None, has_slot=False,
                           ok_codes=spec.failure.ok_codes, lock=lock)
        self.state.run_begins(record)
        self.runs.append((job, run, record))
        self.state.run_started(record._replace(pid=1))
        self.state.applied(name, update.revision, update.attempt)
        run.on_end(partial(self._note_end, record))
        return run

    def _note_end(self, record: RunRecord, end: RunEnd) -> None:
        self.state.run_ended(record, end)
        job, run, _ = self.runs[record.pipe]
        job.end(run, end, self.now)
        job.since = self.now

    def _is_held(self, lock: str) -> bool:
        return any(not run.is_over and run.spec.timing.lock == lock for _, run, _ in self.runs)

    def _waiting_for(self, lock: Optional[str]) -> List[Job]:
        return [job for job in self.jobs if job.spec.timing.lock == lock and job.is_ready(self.now) and not job.running]

    def check(self) -> None:
        """Whatever has to run has been started, and nothing is ended without a reason."""
        for error in self.disagreements:
            raise error
        for job in self.jobs:
            job.catch_up(self.now)
            if not job.is_ready(self.now):
                continue
            lock, mode = job.spec.timing.lock, job.spec.run_mode
            if mode.restarts:
                assert all(run.is_terminated for run in job.running), f'{job.command} should be ended'
            is_hindered = job.running and not mode.overlaps or lock is not None and self._is_held(lock)
            assert is_hindered, f'{job.command} should have run: {job.want}'

    def advance(self, seconds: int) -> None:
        """Let time pass, and note since when each job waits for its lock."""
        for _ in range(seconds * 2):
            self.clock.advance(0.5)
            for job in self.jobs:
                job.catch_up(self.now)
                if not job.is_ready(self.now) or job.running:
                    job.since = self.now
            self.check()


@st.composite
def options(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Dict[str, Any]:
    """Arguments of RegisterWatch. The timeout, which no run reaches, tells two specs apart."""
    mode = draw(st.sampled_from([RunMode.QUEUE, RunMode.DISCARD, RunMode.PARALLEL, RunMode.RESTART]))
    then = draw(st.sampled_from([Then.KEEP, Then.STOP]))
    retry = RETRY(times=draw(st.integers(1, 3)), delay=draw(st.sampled_from([1, 3])), backoff=2, max_delay=5, then=then)
    return {
        'run_mode': mode,
        'run_on_load': draw(st.sampled_from([True, False, RunOnLoad.CHANGED])),
        'on_failure': draw(st.sampled_from([then] if mode.overlaps else [then, retry, retry])),
        'settle': draw(st.sampled_from([0, 0, 2])),
        'splay': draw(st.sampled_from([0, 0, 7])),
        'repeat': draw(st.sampled_from([None, None, 9])),
        'lock': draw(st.sampled_from([None] if mode.overlaps else [None, 'lock'])),
        'run_on_delete': draw(st.booleans()),
        'timeout': draw(st.integers(1, 1000)),
    }


class Histories(RuleBasedStateMachine):
    """What may happen, in any order."""

    which = st.integers(0, 1)

    @initialize(first=options(), second=options(), znode=st.sampled_from(ZNODES), exists=st.booleans())
    def begin(self, first: Dict[str, Any], second: Dict[str, Any], znode: str, exists: bool) -> None:
        """Two jobs, on one znode or on two, and a daemon."""
        self.directory = tempfile.TemporaryDirectory()
        self.world = World(Path(self.directory.name), [Job('first', '/y', first), Job('second', znode, second)])
        if exists:
            self.world.put('/y')
        self.world.start()

    @rule(which=which)
    def put(self, which: int) -> None:
        """A change."""
        self.world.put(self.world.jobs[which].znode)
        self.world.deliver()

    @rule(which=which)
    def delete(self, which: int) -> None:
        """A deletion."""
        self.world.znodes[self.world.jobs[which].znode].delete()
        self.world.deliver()

    @precondition(lambda self: self.world.active())
    @rule(index=st.integers(0, 100), code=st.sampled_from([0, 0, 1, 1, -9, None]))
    def end(self, index: int, code: Optional[int]) -> None:
        """A run ends."""
        active = self.world.active()
        active[index % len(active)].end(code=code)
        self.world.deliver()

    @rule(seconds=st.sampled_from([1, 1, 2, 4, 8]))
    def tick(self, seconds: int) -> None:
        """Time passes."""
        self.world.advance(seconds)

    @rule(which=which, options=options())
    def edit(self, which: int, options: Dict[str, Any]) -> None:
        """A watch is changed in its file."""
        job = self.world.jobs[which]
        if options != job.options:
            job.edit(options, self.world.now)
        self.world.read(self.world.path(job))
        self.world.deliver()

    @rule(which=which)
    def touch(self, which: int) -> None:
        """A file is written again as it was."""
        self.world.read(self.world.path(self.world.jobs[which]))
        self.world.deliver()

    @rule(which=which, is_new_first=st.booleans())
    def move(self, which: int, is_new_first: bool) -> None:
        """A file gets another name."""
        world = self.world
        path = world.path(world.jobs[which])
        new = f'{path}.twc'
        world.files[new] = world.files.pop(path)
        if is_new_first:
            world.read(new)
        world.watches.remove(path)
        if not is_new_first:
            world.read(new)
        world.deliver()

    @rule(is_killed=st.booleans(), ends=st.lists(st.booleans(), max_size=4), which=st.sampled_from([None, 0, 1]),
          is_connected=st.booleans())
    def restart(self, is_killed: bool, ends: List[bool], which: Optional[int], is_connected: bool) -> None:
        """The daemon ends; runs may end and a znode change before there is another one, which may not reach ZooKeeper yet."""
        self.world.stop(is_killed)
        for run, has_ended in zip(self.world.active(), ends):
            if has_ended:
                run.end()
        if which is not None:
            self.world.put(self.world.jobs[which].znode)
        self.world.is_connected = is_connected
        self.world.start()

    @rule()
    def reconnect(self) -> None:
        """The connection to ZooKeeper is lost, or there again."""
        self.world.is_connected = not self.world.is_connected
        self.world.deliver()

    @invariant()
    def check(self) -> None:
        """What must run has been started, and nothing else."""
        if hasattr(self, 'world'):
            self.world.check()

    def teardown(self) -> None:
        """The history is over."""
        if hasattr(self, 'world'):
            self.world.stop(is_killed=True)
            self.directory.cleanup()


def histories(count: int) -> settings:
    """So many histories of up to 40 steps."""
    return settings(max_examples=count, stateful_step_count=40, deadline=None, database=None,
                    suppress_health_check=list(HealthCheck))


TestWhatRunsIsWhatMustRun = Histories.TestCase
TestWhatRunsIsWhatMustRun.settings = histories(150)

if __name__ == '__main__':
    run_state_machine_as_test(Histories, settings=histories(int(sys.argv[1])))
    print(f'{sys.argv[1]} histories without disagreement')
