"""What `./dev test --all` finds on a machine, and what it makes of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.packaging.interpreters import Interpreter, combinations, find_interpreters, oldest_libraries


def add_python(directory: Path, name: str, version: str) -> None:
    """A program that answers like a Python of this version; without a version one that fails."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f'#!/bin/sh\necho {version} {directory}/{name}\n' if version
                                  else '#!/bin/sh\necho is not set up >&2\nexit 127\n')
    (directory / name).chmod(0o755)


def test_each_series_is_found_once_and_what_fails_or_is_too_old_is_not(tmp_path: Path,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    for directory, name, version in ((first, 'python3.10', '3.10.1'), (first, 'python3.9', ''), (first, 'python3.12', ''),
                                     (first, 'python3.8', '3.8.1'), (first, 'python3.10-config', '3.10.1'),
                                     (second, 'python3.9', '3.9.2'), (second, 'python3.10', '3.10.2')):
        add_python(directory, name, version)
    assert find_interpreters([tmp_path / 'nothing', first, second], (3, 9)) == [
        Interpreter('3.9.2', f'{second}/python3.9'), Interpreter('3.10.1', f'{first}/python3.10')]
    assert capsys.readouterr().out == f'== {first}/python3.12 is of no use: is not set up\n'


def test_the_python_of_the_system_is_found() -> None:
    found = find_interpreters([Path('/usr/bin')], (3, 9))
    assert found and all(os.access(each.path, os.X_OK) and each.version.startswith('3.') for each in found)


def test_the_oldest_python_and_that_of_debian_12_get_the_oldest_libraries_too() -> None:
    pythons = [Interpreter(version, '') for version in ('3.9.18', '3.11.2', '3.13.0')]
    assert [f'{each.interpreter.version} {each.libraries}' for each in combinations(pythons)] == [
        '3.9.18 oldest', '3.9.18 newest', '3.11.2 oldest', '3.11.2 newest', '3.13.0 newest']


def test_the_oldest_libraries_are_those_that_the_requirements_name() -> None:
    assert oldest_libraries(['kazoo>=2.8.0', 'pyasyncore; python_version >= "3.12"', 'pytest>=7; extra == "test"']) == [
        'kazoo==2.8.0']
