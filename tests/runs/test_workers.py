"""Calls that may hang, made in threads."""

from __future__ import annotations

import asyncio
import threading
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
