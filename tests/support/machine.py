"""Real runs without a daemon around them: a Runner with its state and its output process, on a loop of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, AsyncIterator, Awaitable, Callable, List, Optional, Tuple, TypeVar

from tests.support.waiting import PATIENCE, Trace
from twitcher.config.action import Action
from twitcher.config.arguments import make_spec
from twitcher.log_target import LogTarget
from twitcher.run_record import RunEnd
from twitcher.runs.output import Output
from twitcher.runs.run import Run
from twitcher.runs.runner import Runner
from twitcher.state import State
from twitcher.znode import Event, Revision, Update

WATCH = 'WATCH_DATA /a 01234567 1'
T = TypeVar('T')


async def until(what: str, probe: Callable[[], Optional[T]]) -> T:
    """Return the first true value of the probe; fail with `what` was waited for. The loop goes on meanwhile."""
    limit = time.monotonic() + PATIENCE
    while True:
        value = probe()
        if value:
            return value
        assert time.monotonic() < limit, f'waited {PATIENCE:g} s for {what}'
        await asyncio.sleep(0.01)


class Machine:
    """Starts runs, and reattaches those of an earlier one with the same directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.log_path = directory / 'output'
        self.trace = Trace(directory / 'trace')
        self.state = State(str(directory), '/etc/twitcher', 'boot 1', asyncio.get_running_loop().call_later)
        self.output = Output(LogTarget('file', str(self.log_path)))
        self.runner = Runner(self.output, self.state, lambda: None)
        self.runs: List[Run] = []

    def start(self, action: Action, contents: bytes = b'', event: Event = Event.LOAD, attempt: int = 1,
              **arguments: Any) -> Tuple[Run, Awaitable[RunEnd]]:
        """Start a run of the action, with these arguments of RegisterWatch. Returns it with its end."""
        update = Update(event, contents, 0, Revision(1, 2, 3), attempt)
        return self._followed(self.runner.start(WATCH, make_spec('/a', action, **arguments), 'a.twc', update))

    def reattach(self) -> List[Tuple[Run, Awaitable[RunEnd]]]:
        """The runs of an earlier daemon that are in progress, with their ends."""
        runs = [self.runner.reattach(record) for record in self.state.unfinished()]
        return [self._followed(run) for run in runs if run]

    async def traced(self, line: str) -> None:
        """Return when an action has written this line to the trace."""
        await until(f'{line!r} in the trace', lambda: line in self.trace.lines())

    async def close(self) -> None:
        """As when the daemon ends: runs in progress go on."""
        await self.runner.close()
        self.state.close()
        self.output.close()

    def _followed(self, run: Run) -> Tuple[Run, Awaitable[RunEnd]]:
        end: asyncio.Future[RunEnd] = asyncio.get_running_loop().create_future()
        run.on_end(end.set_result)
        self.runs.append(run)
        return run, end


@contextlib.asynccontextmanager
async def machine(directory: Path, is_last: bool = True) -> AsyncIterator[Machine]:
    """A machine for the length of a with block. The runs of the last one are killed with it."""
    new = Machine(directory)
    try:
        yield new
    finally:
        await new.close()
        for run in new.runs if is_last else ():
            with contextlib.suppress(ProcessLookupError):
                if run.pid:
                    os.killpg(run.pid, signal.SIGKILL)
