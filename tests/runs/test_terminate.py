"""A run that is ended because of an update: SIGTERM, its grace, SIGKILL, and an end that is neither success nor failure."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any, Awaitable, Callable

import pytest

from tests.support.machine import Machine, machine, until
from tests.support.processes import group_members
from twitcher.config.action import Exec
from twitcher.run_record import Outcome, RunEnd

Story = Callable[[Machine], Awaitable[None]]


def on_a_machine(story: Story) -> Callable[[Path], None]:
    """A test that is a coroutine with a machine."""
    async def told(directory: Path) -> None:
        async with machine(directory) as new:
            await story(new)

    def test(tmp_path: Path) -> None:
        asyncio.run(told(tmp_path))
    test.__name__ = story.__name__
    test.__doc__ = story.__doc__
    return test


def deaf(trace: object, then: str = '') -> Exec:
    """A command that ignores SIGTERM, and says when it does."""
    return Exec(f'trap "" TERM; echo ready >> {trace}; while :; do sleep 0.1; done; {then}')


@on_a_machine
async def test_a_run_is_ended_at_once_and_is_neither_success_nor_failure(new: Machine) -> None:
    run, end = new.start(Exec(f'echo ready >> {new.trace}; sleep 1000'))
    await new.traced('ready')
    asked = time.monotonic()
    run.terminate()
    assert await end == RunEnd(-signal.SIGTERM, is_terminated=True)
    assert (await end).outcome is Outcome.NEITHER
    assert time.monotonic() - asked < 4


@on_a_machine
async def test_a_service_that_ends_well_on_sigterm_is_no_success_either(new: Machine) -> None:
    run, end = new.start(Exec(f'trap "exit 0" TERM; echo ready >> {new.trace}; sleep 1000 & wait'))
    await new.traced('ready')
    run.terminate()
    assert await end == RunEnd(0, is_terminated=True)
    assert (await end).outcome is Outcome.NEITHER


@pytest.mark.parametrize('grace', [0, 0.5, 1.5])
def test_what_ignores_sigterm_is_killed_after_its_grace_and_the_run_ends_when_its_group_has(
        tmp_path: Path, caplog: pytest.LogCaptureFixture, grace: float) -> None:
    async def story() -> None:
        async with machine(tmp_path) as new:
            run, end = new.start(Exec(f'(trap "" TERM; echo child >> {new.trace}; while :; do sleep 0.1; done) & '
                                      f'trap "" TERM; echo ready >> {new.trace}; wait'), grace=grace)
            await new.traced('ready')
            await new.traced('child')
            asked = time.monotonic()
            run.terminate()
            run.terminate()
            assert await end == RunEnd(-signal.SIGKILL, is_terminated=True)
            assert grace <= time.monotonic() - asked < grace + 1.5
            assert run.pid and group_members(run.pid) == []

    caplog.set_level('INFO')
    asyncio.run(story())
    messages = [record.getMessage() for record in caplog.records]
    assert sum('an update ends pid' in message for message in messages) == 1
    assert sum(f'is still there {grace:g} s after SIGTERM: SIGKILL' in message for message in messages) == 1


@on_a_machine
async def test_the_end_waits_for_the_rest_of_the_group_within_the_grace(new: Machine) -> None:
    run, end = new.start(Exec(f'(trap "sleep 0.7; echo child >> {new.trace}; exit" TERM; echo ready >> {new.trace}; '
                              'while :; do sleep 0.1; done) & trap "exit 3" TERM; wait'))
    await new.traced('ready')
    run.terminate()
    assert await end == RunEnd(3, is_terminated=True)
    assert new.trace.lines() == ['ready', 'child']


def hang() -> None:
    """An action in Python that goes on for ever."""
    time.sleep(1000)


@pytest.mark.parametrize('action', [Exec(['sleep', '1000']), Exec('sleep 1000; true'), hang],
                         ids=['list', 'string', 'function'])
def test_a_run_whose_process_does_not_exist_yet_is_ended_as_soon_as_it_does(tmp_path: Path, action: Any) -> None:
    async def story() -> None:
        async with machine(tmp_path) as new:
            for _ in range(20):
                run, end = new.start(action)
                run.terminate()
                asked = time.monotonic()
                assert await end == RunEnd(-signal.SIGTERM, is_terminated=True)
                assert time.monotonic() - asked < 4

    asyncio.run(story())


@on_a_machine
async def test_a_run_that_has_ended_by_itself_keeps_its_exit_code(new: Machine) -> None:
    run, end = new.start(Exec('exit 3'))
    await until('the process', lambda: run.pid)
    await until('its end', lambda: not group_members(run.pid or 0) or None)
    run.terminate()
    assert await end == RunEnd(3)
    run.terminate()


@on_a_machine
async def test_a_timeout_is_a_failure_whatever_the_exit_code_and_an_update_in_its_grace_changes_nothing(new: Machine) -> None:
    run, end = new.start(Exec(f'trap "sleep 0.5; exit 0" TERM; echo ready >> {new.trace}; sleep 1000 & wait'), timeout=0.3,
                         grace=30)
    await until('the timeout', lambda: run.record.sigterm)
    run.terminate()
    assert await end == RunEnd(0, is_overdue=True)
    assert (await end).outcome is Outcome.FAILURE


@on_a_machine
async def test_a_timeout_within_the_grace_of_an_update_changes_nothing(new: Machine) -> None:
    run, end = new.start(deaf(new.trace), timeout=1, grace=2)
    await new.traced('ready')
    run.terminate()
    assert await end == RunEnd(-signal.SIGKILL, is_terminated=True)


@on_a_machine
async def test_a_timeout_has_the_grace_that_the_watch_asks_for(new: Machine) -> None:
    run, end = new.start(deaf(new.trace), timeout=0.5, grace=0.25)
    began = time.monotonic()
    assert await end == RunEnd(-signal.SIGKILL, is_overdue=True)
    assert time.monotonic() - began < 4


@pytest.mark.parametrize('how', ['terminate', 'timeout'])
def test_the_grace_survives_a_restart_of_the_daemon(tmp_path: Path, how: str) -> None:
    async def first() -> int:
        async with machine(tmp_path, is_last=False) as new:
            run, _ = new.start(deaf(new.trace), timeout=0.5 if how == 'timeout' else None, grace=2)
            await new.traced('ready')
            if how == 'terminate':
                run.terminate()
            await until('SIGTERM', lambda: run.record.sigterm)
            assert run.pid
            return run.pid

    async def second() -> None:
        async with machine(tmp_path) as new:
            (run, end), = new.reattach()
            run.terminate()
            assert run.record.sigterm and run.record.grace == 2
            assert run.pid
            reaped = run.pid, signal.SIGKILL
            await until('its end', lambda: os.waitpid(run.pid or 0, os.WNOHANG) == reaped)
            assert (await end).is_overdue == (how == 'timeout') and (await end).is_terminated == (how == 'terminate')
            assert 2 <= time.monotonic() - run.record.sigterm < 4
            assert group_members(run.pid) == []

    pid = asyncio.run(first())
    os.kill(pid, 0)
    asyncio.run(second())


def test_exit_codes_that_are_a_success_are_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with machine(tmp_path) as new:
            for code, ok_codes in ((0, (0,)), (3, (0, 3)), (0, (3,)), (4, (0, 3))):
                _, end = new.start(Exec(f'exit {code}'), ok_codes=ok_codes)
                assert (await end).outcome is (Outcome.SUCCESS if code in ok_codes else Outcome.FAILURE)

    caplog.set_level('INFO')
    asyncio.run(story())
    assert [(record.levelname, record.getMessage().split(' after')[0].partition(' exited ')[2])
            for record in caplog.records if ' exited ' in record.getMessage()] == [
                ('INFO', '0'), ('INFO', '3'), ('WARNING', '0'), ('WARNING', '4')]


def test_a_process_that_init_is_slow_to_reap_is_not_taken_for_deaf(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def first() -> None:
        async with machine(tmp_path, is_last=False) as new:
            run, _ = new.start(Exec(f'echo ready >> {new.trace}; exec sleep 1000'))
            await new.traced('ready')

    async def second() -> None:
        async with machine(tmp_path) as new:
            (run, end), = new.reattach()
            run.record = run.record._replace(grace=0.2)
            run.terminate()
            await until('SIGTERM', lambda: run.record.sigterm)
            await asyncio.sleep(0.5)  # we are its parent, and slow
            assert run.pid and os.waitpid(run.pid, 0) == (run.pid, signal.SIGTERM)
            assert await end in (RunEnd(-signal.SIGTERM, is_terminated=True), RunEnd(is_terminated=True))

    asyncio.run(first())
    asyncio.run(second())
    assert not any('SIGKILL' in message for message in caplog.messages)
