"""Files that are edited, renamed and read by another daemon in any order, around runs in progress: no run overlaps, no
update is lost, nothing runs without a cause, and nobody waits for a watch that is in force.

The watches and their state are real; ZooKeeper, the processes and the clock are the test's.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fake_machine import FakeClock, FakeRun, Znode
from twitcher.config.action import Exec
from twitcher.config.arguments import make_spec
from twitcher.config.spec import WatchSpec
from twitcher.run_record import RunEnd, RunRecord
from twitcher.state import State
from twitcher.watches.backlog import Backlog
from twitcher.watches.context import WatchContext
from twitcher.watches.policies import Policies
from twitcher.watches.registry import RENAME_WINDOW, Watches
from twitcher.watches.retries import Retries
from twitcher.watches.timing import Machine
from twitcher.watches.turns import Slots
from twitcher.znode import Update, ZnodeState

Listener = Callable[[ZnodeState], None]
ZNODES = ('/y', '/z')
FILES = tuple(f'/nowhere/{name}.twc' for name in 'abc')


class FakeSubscriptions:
    """Tells a new listener what there is, and all of them each change, when it is asked to deliver."""

    def __init__(self, znodes: Dict[str, Znode]) -> None:
        self._znodes = znodes
        self._listeners: List[Tuple[str, Listener]] = []

    def subscribe(self, path: str, watch_type: object, listener: Listener) -> None:
        """As Subscriptions says."""
        self._listeners.append((path, listener))

    def unsubscribe(self, path: str, watch_type: object, listener: Listener) -> None:
        """As Subscriptions says."""
        self._listeners.remove((path, listener))

    def deliver(self) -> None:
        """Tell all what they may know already."""
        for path, listener in self._listeners[:]:
            listener(self._znodes[path].state)


@dataclass
class Job:
    """What a watch does, to which znode: the one thing by which the model tells watches apart."""

    znode: str
    command: str
    options: Dict[str, Any] = field(default_factory=dict)
    received: Optional[int] = None
    causes: int = 0
    seen: Optional[int] = None
    waits_for: Set[int] = field(default_factory=set)

    def spec(self) -> WatchSpec:
        """Its RegisterWatch."""
        return make_spec(self.znode, Exec(self.command), run_on_load=False, **self.options)


class World:
    """Files, and the daemon that has read them."""

    def __init__(self, directory: Path, chance: random.Random) -> None:
        self.chance = chance
        self.znodes = {path: Znode() for path in ZNODES}
        self.version = 0
        self.files: Dict[str, List[Job]] = {path: [] for path in FILES}
        self.runs: List[Tuple[str, FakeRun]] = []
        self.history: Dict[str, List[int]] = {}
        self.now = 0.0
        self.alarms: List[Tuple[float, Callable[[], None]]] = []
        self.is_up = self.moves_while_down = False
        self.ended_unseen: Set[str] = set()
        self.boot = 0
        self.names = 0
        self._directory = directory
        for path in ZNODES:
            self.put(path)
        self.start()

    def jobs(self) -> List[Job]:
        """All jobs in the files."""
        return [job for jobs in self.files.values() for job in jobs]

    def active(self, command: str = '') -> List[Tuple[str, FakeRun]]:
        """Runs in progress, of one job or of all."""
        return [(name, run) for name, run in self.runs if not run.is_over and (not command or run_command(run) == command)]

    def start(self) -> None:
        """A daemon, on what the earlier one has left."""
        self.alarms.clear()
        self.state = State(str(self._directory), '/nowhere', f'boot {self.boot}', self.later)
        self.subscriptions = FakeSubscriptions(self.znodes)
        state = self.state
        context = WatchContext(self._start_run, state.save_pending, state.save_stopped, Retries(self.later), Backlog())
        policies = Policies(Slots(1), Machine(FakeClock(), 'host'))
        self.watches = Watches('/nowhere', self.subscriptions, self.state, context, policies, self.later)
        self.state.in_force = self.watches.in_force
        for record in self.state.unfinished():
            run = self.runs[record.pipe][1]
            if run.is_over:
                self.state.run_ended(record, RunEnd())
            else:
                run.on_end(partial(self._note_end, record))
                self.watches.add_reattached(record, run)
        for path in FILES:
            if self.files[path]:
                self.watches.replace(path, [job.spec() for job in self.files[path]], is_same_text=False)
        self.is_up = True
        self.ended_unseen.clear()
        for job in self.jobs():
            job.seen = None

    def stop(self) -> None:
        """The daemon ends; its runs go on."""
        if self.is_up:
            self.watches.close()
            self.state.close()
            self.is_up = False
            self.moves_while_down = self.chance.random() < 0.5
            for _, run in self.active():
                run._callbacks.clear()

    def read(self, *paths: str) -> None:
        """The daemon sees these files as they are now, one after the other."""
        for path in paths if self.is_up else ():
            if self.files[path]:
                self.watches.replace(path, [job.spec() for job in self.files[path]], is_same_text=False)
            else:
                self.watches.remove(path)

    def put(self, path: str) -> None:
        """A change of a znode."""
        self.version += 1
        self.znodes[path].put(str(self.version))

    def deliver(self) -> None:
        """The daemon learns what the znodes are now, and each job that knew an earlier state has a cause to run."""
        if not self.is_up:
            return
        for job in self.jobs():
            current = int((self.znodes[job.znode].state.contents or b'').decode())
            if job.seen is not None and job.seen != current:
                job.received = current
                job.causes += 1
            job.seen = current
        self.subscriptions.deliver()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        due = [callback for when, callback in self.alarms if when <= self.now]
        self.alarms = [alarm for alarm in self.alarms if alarm[0] > self.now]
        for callback in due:
            callback()

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """As the loop's call_later."""
        self.alarms.append((self.now + seconds, callback))

    def new_job(self, znode: str = '') -> Job:
        """One that there was never before.

        It has to wait for all runs of its znode whose job is gone, unless another one has taken that job's place.
        """
        self.names += 1
        # One cause, as it may take the place of one that has just gone, with an update pending.
        job = Job(znode or self.chance.choice(ZNODES), f'job {self.names}', causes=1)
        job.waits_for = {index for index, (_, run) in enumerate(self.runs)
                         if not run.is_over and run.spec.znode == job.znode and not self.has(run_command(run))
                         and not any(index in other.waits_for for other in self.jobs())}
        return job

    def has(self, command: str) -> bool:
        """Whether there is such a job in the files."""
        return any(job.command == command for job in self.jobs())

    def _start_run(self, name: str, spec: WatchSpec, description: str, update: Update) -> FakeRun:
        command = str(cast(Exec, spec.action).command)
        assert not self.active(command), f'{command} overlaps'
        job, = (job for job in self.jobs() if job.command == command)
        for index in job.waits_for:
            earlier = self.runs[index][1]
            assert earlier.is_over or self.has(run_command(earlier)), f'{command} overlaps with {run_command(earlier)}'
        job.causes -= 1
        assert job.causes >= 0, f'{command} runs without a cause'
        self.history.setdefault(command, []).append(int(update.contents))
        run = FakeRun(spec, update)
        record = RunRecord(self.state.new_run_id(), name, description, len(self.runs), 0.0, None, has_slot=False)
        self.state.run_begins(record)
        self.runs.append((name, run))
        self.state.run_started(record._replace(pid=os.getpid()))
        self.state.applied(name, update.revision)
        run.on_end(partial(self._note_end, record))
        return run

    def _note_end(self, record: RunRecord, end: RunEnd) -> None:
        self.state.run_ended(record, end)

    def check(self) -> None:
        """Whatever has been received is run for, unless the job, or one that is gone, has a run in progress."""
        for job in self.jobs() if self.is_up else ():
            if job.received and job.received > (self.history.get(job.command) or [0])[-1]:
                obstacles = [run for _, run in self.active() if run.spec.znode == job.znode
                             and (run_command(run) == job.command or not self.has(run_command(run)))]
                assert obstacles, f'{job.command} should have run for {job.received}'


def run_command(run: FakeRun) -> str:
    """The job of a run."""
    return str(cast(Exec, run.spec.action).command)


def step(world: World) -> None:
    """Something happens."""
    chance = world.chance
    source, target = chance.choice(FILES), chance.choice(FILES)
    jobs = world.files[source]
    # A file that gets the name of another one which is renamed meanwhile, both while no daemon runs, may be taken for that.
    kind = chance.choice(['put'] * 4 + ['end'] * 2 + ['remove', 'shuffle', 'option', 'wait', 'restart', 'restart', 'down',
                                                      'up', 'reboot']
                         + ['rename', 'move'] * (world.is_up or world.moves_while_down)
                         + ['add', 'add', 'command'] * (world.is_up or not world.moves_while_down))
    if kind == 'put':
        world.put(chance.choice(ZNODES))
    elif kind == 'end' and world.active():
        run = chance.choice(world.active())[1]
        run.end()
        if not world.is_up:
            world.ended_unseen.add(run_command(run))
    elif kind == 'wait':
        world.wait(chance.choice([0.3, RENAME_WINDOW + 0.1]))
    elif kind == 'add':
        jobs.insert(chance.randint(0, len(jobs)), world.new_job())
        world.read(source)
    elif kind in ('restart', 'down', 'reboot'):
        world.stop()
        if kind == 'reboot':
            reboot(world)
        if kind != 'down':
            world.start()
    elif kind == 'up' and not world.is_up:
        world.start()
    elif jobs:
        edit(world, kind, source, target)
    if chance.random() < 0.8:
        world.deliver()
        world.check()


def edit(world: World, kind: str, source: str, target: str) -> None:
    """A file that has watches is changed."""
    chance, jobs = world.chance, world.files[source]
    index = chance.randrange(len(jobs))
    if kind == 'remove':
        del jobs[index]
        world.read(source)
    elif kind == 'shuffle':
        chance.shuffle(jobs)
        world.read(source)
    elif kind == 'option':
        jobs[index].options = {'timeout': chance.randint(1, 100)}
        world.read(source)
    elif kind == 'rename' and not world.files[target]:
        world.files[source], world.files[target] = [], jobs
        world.read(*chance.choice([(source, target), (target, source)]))
    elif kind == 'move' and source != target:
        world.files[target].append(jobs.pop(index))
        world.read(*chance.choice([(source, target), (target, source)]))
    elif kind == 'command':
        earlier = jobs.pop(index)
        new = world.new_job(earlier.znode)
        jobs.insert(index, new)
        world.read(source)


def reboot(world: World) -> None:
    """All processes are gone; what they ran for is to be run for again."""
    world.boot += 1
    for job in world.jobs():
        job.causes += job.command in world.ended_unseen
    for _, run in world.active():
        run.is_over = True
        for job in world.jobs():
            if job.command == run_command(run):
                job.causes += 1
                job.received = job.received or 1
                world.history[job.command].append(0)


@settings(max_examples=150, deadline=None, database=None)
@given(st.integers(0, 10 ** 9), st.integers(10, 60))
def test_watches_stay_what_they_are_through_edits_renames_and_restarts(seed: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), random.Random(seed))
        world.stop()
        world.start()
        try:
            for _ in range(steps):
                step(world)
            if not world.is_up:
                world.start()
            for _ in range(len(world.runs) + 10):
                world.deliver()
                world.check()
                for _, run in world.active():
                    run.end()
            assert world.active() == []
            for job in world.jobs():
                if job.received:
                    assert world.history[job.command][-1] >= job.received
            assert all(count == 1 for count in Counter(job.command for job in world.jobs()).values())
        finally:
            world.stop()
