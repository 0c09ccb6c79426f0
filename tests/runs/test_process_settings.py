"""The environment, the working directory and the umask that a watch asks for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest

from tests.support.machine import machine
from tests.support.waiting import wait_for
from twitcher.config.action import Exec
from twitcher.run_record import Outcome
from twitcher.runs import child, posix_spawn

SHELL = 'echo "$PWD `umask` $A $HOME" > result; : > made'


def function() -> None:
    """The same as SHELL in Python."""
    mask = os.umask(0)
    os.umask(mask)
    with open('result', 'w') as file:
        print(os.getcwd(), f'{mask:04o}', os.environ.get('A', ''), os.environ['HOME'], file=file)
    open('made', 'w').close()


def replaced() -> None:
    """A function that a command takes the place of."""
    Exec(['sh', '-c', SHELL])()


KINDS = pytest.mark.parametrize('action', [Exec(SHELL), Exec(['sh', '-c', SHELL]), function, replaced],
                                ids=['string', 'list', 'function', 'function that calls Exec'])


@KINDS
@pytest.mark.parametrize('way', ['as root', 'as nobody', 'without posix_spawn'])
@pytest.mark.parametrize('umask', [None, 0, 0o027, 0o777])
def test_a_run_gets_what_its_watch_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Any, way: str,
                                            umask: Optional[int]) -> None:
    directory = tmp_path / 'a directory \N{SNOWMAN}'
    directory.mkdir()
    directory.chmod(0o777)
    if way == 'without posix_spawn':
        monkeypatch.setattr(posix_spawn, 'is_available', False)
    arguments: Dict[str, Any] = {'uid': 'nobody'} if way == 'as nobody' else {}

    async def story() -> None:
        async with machine(tmp_path) as new:
            _, end = new.start(action, cwd=str(directory), umask=umask, environment={'A': 'x=\N{SNOWMAN}', 'HOME': '/h'},
                               **arguments)
            assert (await end).outcome is Outcome.SUCCESS, new.log_path.read_text()

    asyncio.run(story())
    mask = 0o022 if umask is None else umask
    assert (directory / 'result').read_text() == f'{directory} {mask:04o} x=\N{SNOWMAN} /h\n'
    assert (directory / 'made').stat().st_mode & 0o777 == 0o666 & ~mask


@KINDS
@pytest.mark.parametrize('umask', [None, 0o027])
@pytest.mark.parametrize('kind', ['missing', 'file'])
def test_a_directory_that_cannot_be_entered_is_a_failure_for_good_that_the_log_explains(
        tmp_path: Path, action: Any, umask: Optional[int], kind: str) -> None:
    (tmp_path / 'file').touch()
    cwd = str(tmp_path / kind)
    told = f"its cwd '{cwd}': " + ('No such file or directory' if kind == 'missing' else 'Not a directory')

    async def story() -> None:
        async with machine(tmp_path) as new:
            _, end = new.start(action, cwd=cwd, umask=umask, ok_codes=(0, 1, 2))
            outcome = await end
            assert outcome.outcome is Outcome.FAILURE
            if isinstance(action, Exec):
                assert outcome.error and not outcome.error.transient
                assert str(outcome.error).endswith(f'cannot be run: {told}')
            else:
                assert outcome.exit_code == 3

    asyncio.run(story())
    if not isinstance(action, Exec):
        line, output = f'a Python function cannot be run: {told}\n', tmp_path / 'output'
        wait_for('the reason in the log', lambda: output.exists() and line in output.read_text())


def test_a_program_is_looked_up_from_the_directory(tmp_path: Path) -> None:
    program = tmp_path / 'deploy'
    program.write_text('#!/bin/sh\nexit 7\n')
    program.chmod(0o755)
    (tmp_path / 'broken').write_text('#!./no-such-interpreter\n')
    (tmp_path / 'broken').chmod(0o755)

    async def story() -> None:
        async with machine(tmp_path) as new:
            for umask in (None, 0o027):
                assert (await new.start(Exec(['./deploy']), cwd=str(tmp_path), umask=umask)[1]).exit_code == 7
                error = (await new.start(Exec(['./broken']), cwd=str(tmp_path), umask=umask)[1]).error
                assert error and str(error).endswith("No such file or directory: its interpreter './no-such-interpreter'")

    asyncio.run(story())


def test_runs_that_start_at_once_do_not_share_a_umask(tmp_path: Path) -> None:
    async def story() -> List[str]:
        async with machine(tmp_path) as new:
            ends = [new.start(Exec(f'echo $TWITCHER_ATTEMPT `umask` >> {new.trace}'), attempt=number,
                              umask=number if number % 2 else None)[1] for number in range(1, 31)]
            for end in ends:
                assert (await end).exit_code == 0
            return new.trace.lines()

    expected = [f'{number} {number if number % 2 else 0o022:04o}' for number in range(1, 31)]
    assert sorted(asyncio.run(story())) == sorted(expected)


@pytest.mark.skipif(not posix_spawn.is_available, reason='the C library has no posix_spawn that closes descriptors')
def test_a_watch_that_asks_for_no_umask_is_still_spawned_the_fast_way(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, '_Spawned', None)

    async def story() -> None:
        async with machine(tmp_path) as new:
            _, end = new.start(Exec('exit 4'), cwd=str(tmp_path), environment={'A': 'b'})
            assert (await end).exit_code == 4

    asyncio.run(story())
