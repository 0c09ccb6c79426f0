"""The completion of the command lines, in a real bash: it offers what the programs understand."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import List, Set

import pytest

from tests.support.programs import TOP
from twitcher import cli
from twitcher.ctl import cli as ctl

COMPLETION = TOP / 'etc' / 'bash-completion' / 'twitcher'
# Finds the function as bash would, by the name of the command, and prints what it offers.
DRIVER = r"""
source "$1" || exit
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
specification=$(complete -p "$1") || exit
read -r _ _ name _ <<<"$specification"
"$name" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
((${#COMPREPLY[@]})) && printf '%s\n' "${COMPREPLY[@]}"
exit 0
"""
(POKE,) = [action.choices['poke'] for action in ctl.new_parser()._actions if isinstance(action, argparse._SubParsersAction)]
LINES = [(['twitcher'], cli.new_parser()), (['twitcherctl', 'poke'], POKE)]
"""The beginnings of a command line after which options may stand, and what understands them."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file and two directories."""
    (tmp_path / 'file').touch()
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'far away').mkdir()
    return tmp_path


def offered(place: Path, *words: str) -> Set[str]:
    """What bash offers in the place of the last word."""
    result = subprocess.run(['bash', '--norc', '-c', DRIVER, 'bash', str(COMPLETION), *words], cwd=place, capture_output=True,
                            text=True, check=True, timeout=60)
    assert result.stderr == ''
    lines = result.stdout.splitlines()
    assert len(lines) == len(set(lines))
    return set(lines)


@pytest.mark.parametrize(('line', 'parser'), LINES)
def test_every_option_is_offered_and_no_other(place: Path, line: List[str], parser: argparse.ArgumentParser) -> None:
    names = {name for action in parser._actions for name in action.option_strings}
    assert offered(place, *line, '-') == names
    assert offered(place, *line, '--') == {name for name in names if name.startswith('--')}
    for name in names:
        assert name in offered(place, *line, name)


@pytest.mark.parametrize(('line', 'parser'), LINES)
def test_options_with_hyphens_are_completed_with_hyphens(place: Path, line: List[str], parser: argparse.ArgumentParser) -> None:
    for name in [name for action in parser._actions for name in action.option_strings if '_' in name]:
        hyphened = name.replace('_', '-')
        begin = hyphened[:hyphened.index('-', 2) + 1]
        assert offered(place, *line, begin) == {
            other.replace('_', '-') for action in parser._actions for other in action.option_strings
            if other.replace('_', '-').startswith(begin)}


@pytest.mark.parametrize('equals', [[], ['=']], ids=['space', 'equals'])
@pytest.mark.parametrize(('line', 'parser'), LINES)
def test_what_an_option_takes_decides_what_is_offered_for_it(place: Path, line: List[str], parser: argparse.ArgumentParser,
                                                             equals: List[str]) -> None:
    expected = {'DIR': {'folder', 'far away'}, 'FILE': {'file', 'folder', 'far away'}}
    expected['SOCKET'] = expected['FILE']
    for action in parser._actions:
        for name in [name for name in action.option_strings if action.metavar]:
            for spelling in (name, name.replace('_', '-')):
                fitting = expected.get(str(action.metavar), set())
                assert offered(place, *line, spelling, *equals, 'f') == fitting, name
                if not equals:
                    assert offered(place, *line, spelling, '') == fitting, name


def test_nothing_typed_behind_an_equals_sign_offers_everything_that_fits(place: Path) -> None:
    assert offered(place, 'twitcher', '--config_path', '=') == {'folder', 'far away'}


def test_twitcherctl_offers_its_commands_first(place: Path) -> None:
    parser = ctl.new_parser()
    names = {name for action in parser._actions for name in action.option_strings}
    assert offered(place, 'twitcherctl', '') == {'poke', *names}
    assert offered(place, 'twitcherctl', 'p') == {'poke'}
    assert offered(place, 'twitcherctl', '-') == names


def test_a_znode_and_its_data_are_nothing_that_could_be_guessed(place: Path) -> None:
    assert offered(place, 'twitcherctl', 'poke', '') == set()
    assert offered(place, 'twitcherctl', 'poke', '/f', 'f') == set()
    assert offered(place, 'twitcherctl', 'poke', '/f', '--', '-') == set()
    assert '--wait' in offered(place, 'twitcherctl', 'poke', '/f', 'data', '--')
    assert '--wait' in offered(place, 'twitcherctl', 'poke', '--zkservers', 'zk1', ':', '2181', '--')
