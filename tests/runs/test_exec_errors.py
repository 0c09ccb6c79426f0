"""The log names the file that is missing when a program cannot be executed though it is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble


def refusal(twitcher: Twitcher, ensemble: Ensemble, program: str, path: Optional[Path] = None) -> str:
    """What the log says of a run of the program, with the path in PATH."""
    twitcher.config('x.twc', f"RegisterWatch('/x', Exec(['{program}']))")
    ensemble.put('/x', '')
    twitcher.start(environment={'PATH': f'{path}:{os.environ["PATH"]}'} if path else None)
    return twitcher.wait_log(r"ERROR: x\.twc: (.* cannot be run: .*)$")[0][1]


@pytest.mark.parametrize(('line', 'interpreter'), [
    ('#!/usr/bin/pythn3', "'/usr/bin/pythn3'"), ('#! \t/no/perl -w', "'/no/perl'"), ('#!/bin/sh\r', r"'/bin/sh\r'")])
def test_an_interpreter_that_is_missing_is_named(
        twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path, line: str, interpreter: str) -> None:
    program = tmp_path / 'program'
    program.write_bytes(f'{line}\nexit 0\n'.encode())
    program.chmod(0o755)
    assert refusal(twitcher, ensemble, str(program)).endswith(f': its interpreter {interpreter}')


def test_the_interpreter_of_an_interpreter_is_named(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    (tmp_path / 'first').write_text(f'#!{tmp_path}/second\n')
    (tmp_path / 'second').write_text('#!/no/third\n')
    for name in ('first', 'second'):
        (tmp_path / name).chmod(0o755)
    assert refusal(twitcher, ensemble, 'first', path=tmp_path).endswith("its interpreter '/no/third'")


def test_a_dynamic_loader_that_is_missing_is_named(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    program = tmp_path / 'program'
    text = Path('/bin/true').read_bytes()
    assert text.count(b'/lib64/ld-linux') == 1
    program.write_bytes(text.replace(b'/lib64/ld-linux', b'/libXX/ld-linux'))
    program.chmod(0o755)
    assert "its dynamic loader '/libXX/ld-linux" in refusal(twitcher, ensemble, str(program))


def test_a_program_that_is_missing_itself_is_told_as_ever(twitcher: Twitcher, ensemble: Ensemble) -> None:
    assert refusal(twitcher, ensemble, '/no/program') == "('/no/program',) cannot be run: No such file or directory"


def test_nothing_but_a_regular_file_is_looked_into(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'fifo', 0o755)
    assert refusal(twitcher, ensemble, str(tmp_path / 'fifo')).endswith('Permission denied')
