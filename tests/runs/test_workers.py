"""Calls that may hang, made in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, List

from twitcher.runs.workers import Workers


def ignore(_: Any) -> None:
    """Do nothing with a result."""


def test_a_call_that_was_dropped_is_not_begun_when_there_is_a_thread_for_it() -> None:
    gate, begun = threading.Event(), threading.Event()
    made: List[str] = []

    def hang() -> None:
        begun.set()
        gate.wait()

    async def calls() -> List[str]:
        workers = Workers(3)
        workers.call(hang, ignore, lambda _: made.append('first'))
        assert begun.wait(10)
        workers.call(lambda: made.append('dropped'), ignore, ignore)
        workers.drop()
        gate.set()
        workers.call(lambda: made.append('last'), ignore, ignore)
        while len(made) < 2:
            await asyncio.sleep(0.01)
        return made

    assert sorted(asyncio.run(calls())) == ['first', 'last']


def test_calls_that_hung_and_end_at_once_lose_no_result() -> None:
    async def calls() -> None:
        for _ in range(60):
            gate = threading.Event()
            begun: List[None] = []
            made: List[None] = []

            def hang(gate: threading.Event = gate, begun: List[None] = begun) -> None:
                begun.append(None)
                gate.wait()

            workers = Workers(12)
            for _ in range(12):
                workers.call(hang, lambda _: None, made.append)
            while len(begun) < 12:
                await asyncio.sleep(0.001)
            gate.set()
            deadline = time.monotonic() + 20
            while not workers.is_idle:
                assert time.monotonic() < deadline, f'{len(made)} results of 12'
                await asyncio.sleep(0.001)

    asyncio.run(calls())
