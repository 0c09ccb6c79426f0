"""Random histories of watches with policies, against a small model that says what must run, when and as which attempt.

The watches, their gates and their state are real; ZooKeeper, the processes and the clock
are the test's. The model knows no gates and no states: for each watch it keeps the one
moment from which a run has to start. `python -m tests.watches.test_policies_at_random
20000` plays so many histories.
"""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_machine import FakeClock, HandMadeRun, Znode
from twitcher.config.action import Exec
from twitcher.config.arguments import RETRY, make_spec
from twitcher.config.spec import RunMode, RunOnLoad, Then, WatchSpec
from twitcher.run_record import Outcome, RunEnd, RunRecord
from twitcher.state import State
from twitcher.watches.backlog import Backlog
from twitcher.watches.context import WatchContext
from twitcher.watches.policies import Policies
from twitcher.watches.registry import Watches
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
    running: List[HandMadeRun] = field(default_factory=list)
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
        from twitcher.watches.registry import _key
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
            assert isinstance(state.contents, bytes)
            contents = state.contents.decode()
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

    def start(self, run: HandMadeRun, now: float) -> None:
        """A run has started: the model agrees, or the test fails."""
        self.catch_up(now)
        update, want = run.given, self.want
        assert want, f'{self.command} runs without a cause: {update.event}'
        assert self.is_ready(now), f'{self.command} runs at {now}, not at {want.at}'
        expected = (want.event, want.attempt, self.newest)
        assert (update.event, update.attempt, update.stdin().decode()) == expected, f'{self.command}: not {expected}'
        assert not self.running or self.spec.run_mode.overlaps, f'{self.command} overlaps'
        self.want = None
        self.last = Last(update.revision, update.attempt)
        self.running.append(run)

    def end(self, run: HandMadeRun, end: RunEnd, now: float) -> None:
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
    """Two jobs, each in a file, and the daemon that has read them."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.chance = chance
        self.clock = FakeClock(100.0)
        self.znodes = {path: Znode() for path in ZNODES}
        self.version = 0
        self.runs: List[Tuple[Job, HandMadeRun, RunRecord]] = []
        self.disagreements: List[AssertionError] = []
        self._directory = directory
        self.jobs = [Job('first', chance.choice(ZNODES)), Job('second', chance.choice(ZNODES))]
        for job in self.jobs:
            job.options = self.random_options()
        self.files = {'/nowhere/a.twc': self.jobs[0], '/nowhere/b.twc': self.jobs[1]}
        self.is_connected = True
        for path in ZNODES:
            if chance.random() < 0.8:
                self.put(path)
        self.start()

    @property
    def now(self) -> float:
        """The time."""
        return self.clock.time()

    def random_options(self) -> Dict[str, Any]:
        """Arguments of RegisterWatch."""
        chance = self.chance
        mode = chance.choice([RunMode.QUEUE, RunMode.QUEUE, RunMode.DISCARD, RunMode.PARALLEL, RunMode.RESTART])
        then = chance.choice([Then.KEEP, Then.STOP])
        retry = RETRY(times=chance.randint(1, 3), delay=chance.choice([1, 3]), backoff=2, max_delay=5, then=then)
        return {
            'run_mode': mode,
            'run_on_load': chance.choice([True, False, RunOnLoad.CHANGED]),
            'on_failure': then if mode is RunMode.PARALLEL else chance.choice([retry, retry, then]),
            'settle': chance.choice([0, 0, 2]),
            'splay': chance.choice([0, 0, 7]),
            'repeat': chance.choice([None, None, 9]),
            'lock': None if mode is RunMode.PARALLEL else chance.choice([None, 'lock']),
            'run_on_delete': chance.choice([True, False]),
            'timeout': chance.randint(1, 1000),
        }

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

    def _start_run(self, name: str, spec: WatchSpec, description: str, update: Update) -> HandMadeRun:
        try:
            return self._started(name, spec, update)
        except AssertionError as error:  # which a watch would take for a machine that refuses to start it
            self.disagreements.append(error)
            raise

    def _started(self, name: str, spec: WatchSpec, update: Update) -> HandMadeRun:
        job, = (job for job in self.jobs if spec.action == Exec(job.command))
        run = HandMadeRun(spec, update)
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


def step(world: World) -> None:
    """Something happens."""
    chance = world.chance
    job = chance.choice(world.jobs)
    path, = (path for path, other in world.files.items() if other is job)
    kind = chance.choice(['put'] * 4 + ['end', 'fail'] * 3 + ['tick'] * 4
                         + ['delete', 'unknown', 'edit', 'touch', 'move', 'restart', 'kill', 'cut'])
    if kind == 'put':
        world.put(job.znode)
    elif kind in ('end', 'fail', 'unknown'):
        active = [run for _, run, _ in world.runs if not run.is_over]
        if active:
            code = {'end': 0, 'fail': chance.choice([1, -9]), 'unknown': None}[kind]
            chance.choice(active).end(code=code)
    elif kind == 'tick':
        world.advance(chance.choice([1, 1, 2, 4, 8]))
    elif kind == 'delete':
        world.znodes[job.znode].delete()
    elif kind == 'edit':
        options = world.random_options()
        job.edit(options, world.now)
        world.read(path)
    elif kind == 'touch':
        world.read(path)
    elif kind == 'move' and len(world.files) == 2:
        new = f'/nowhere/{chance.randint(0, 10 ** 9)}.twc'
        world.files[new] = world.files.pop(path)
        if chance.random() < 0.5:
            world.watches.remove(path)
            world.read(new)
        else:
            world.read(new)
            world.watches.remove(path)
    elif kind in ('restart', 'kill'):
        world.stop(kind == 'kill')
        for _, run, _ in world.runs:
            if not run.is_over and chance.random() < 0.3:
                run.end()
        if chance.random() < 0.5:
            world.put(job.znode)
        world.is_connected = chance.random() < 0.7
        world.start()
    elif kind == 'cut':
        world.is_connected = not world.is_connected
    world.deliver()
    world.check()


def play(seed: int, steps: int) -> None:
    """A history."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), random.Random(seed))
        try:
            for _ in range(steps):
                step(world)
            world.is_connected = True
            world.deliver()
            for job in world.jobs:  # in the end everything that must run does
                job.repeat_at = None
            world.check()
        finally:
            world.stop(is_killed=True)


@settings(max_examples=150, deadline=None, database=None)
@given(st.integers(0, 10 ** 9), st.integers(5, 40))
def test_what_runs_is_what_must_run(seed: int, steps: int) -> None:
    play(seed, steps)


if __name__ == '__main__':
    for seed in range(int(sys.argv[1])):
        try:
            play(seed, random.Random(seed).randint(5, 40))
        except AssertionError as error:
            sys.exit(f'seed {seed}: {error}')
    print(f'{sys.argv[1]} histories without disagreement')
