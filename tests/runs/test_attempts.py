"""What a run is told of its cause, and of the attempts before it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.machine import machine
from twitcher.config.action import Exec
from twitcher.znode import Event


def test_a_run_knows_its_event_and_which_attempt_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with machine(tmp_path) as new:
            action = Exec(f'echo $TWITCHER_EVENT $TWITCHER_ATTEMPT >> {new.trace}')
            for event, attempt in ((Event.CHANGED, 1), (Event.CHANGED, 2), (Event.DELETED, 1), (Event.REPEAT, 3)):
                _, end = new.start(action, event=event, attempt=attempt)
                await end
            assert new.trace.lines() == ['changed 1', 'changed 2', 'deleted 1', 'repeat 3']

    caplog.set_level('INFO')
    asyncio.run(story())
    assert [message.partition(' started ')[2] for message in caplog.messages
            if ' started ' in message] == [
                '(changed, version 0)', '(changed, version 0, attempt 2)', '(deleted, version 0)',
                '(repeat, version 0, attempt 3)']
