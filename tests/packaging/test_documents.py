"""README and doc/: the commands in them run, the output that they quote is printed, and what they name exists."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Set

import pytest
from kazoo.security import make_acl

from bench.__main__ import BENCHMARKS
from tests.chaos.breaks import BREAKS
from tests.packaging.documents import DOCUMENTS, MARKDOWN, PAGES, commands, languages, terms
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP, call
from tests.support.waiting import PATIENCE
from twitcher import cli
from twitcher.ctl import cli as ctl

GUARANTEES, PERFORMANCE, TROUBLESHOOTING, DEVELOPMENT = (
    DOCUMENTS[f'doc/{name}.md'] for name in ('GUARANTEES', 'PERFORMANCE', 'TROUBLESHOOTING', 'DEVELOPMENT'))
NOBODY_READS = [make_acl('world', 'anyone', create=True, write=True, delete=True, admin=True)]
CODE = {path: re.findall(r'`([^`]+)`', re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL))
        for path, text in MARKDOWN.items()}
"""What each document sets as code within its sentences."""


def options_of(parser: argparse.ArgumentParser) -> Set[str]:
    """The options of a program and of its commands."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(*(options_of(command) for command in action.choices.values()))
    return found


def test_the_only_commands_of_the_documents_besides_the_readme_are_tested_here() -> None:
    found = {path: languages(text) for path, text in DOCUMENTS.items() if languages(text)}
    assert found.pop('doc/RECIPES.md') == ['python', 'sh']  # which test_recipes.py compares with the examples
    assert found == {'doc/GUARANTEES.md': ['console']}


@pytest.mark.timeout(300)
def test_the_fault_harness_is_run_as_the_guarantees_say(tmp_path: Path) -> None:
    ((line,),) = commands(GUARANTEES)
    words = shlex.split(line)
    assert words[:4] == ['$', './dev', 'chaos', '--seed'] and words[5] == '--seconds'
    shutil.copytree(TOP, tmp_path / 'checkout', symlinks=True, ignore=shutil.ignore_patterns('.*', '__pycache__'))
    done = subprocess.run([sys.executable, '-m', 'tests.chaos', *words[3:6], '3'], cwd=tmp_path / 'checkout', text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
    assert done.returncode == 0, done.stdout


def test_the_fault_harness_is_tested_with_as_many_broken_daemons_as_the_guarantees_say() -> None:
    assert len(BREAKS) == 10 and 'ten daemons that are broken on purpose' in GUARANTEES


def test_every_command_of_dev_is_explained() -> None:
    usage = subprocess.run(['./dev', '--help'], cwd=TOP, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    known = set(re.findall(r'\./dev [a-z-]+', usage))
    assert known == set(re.findall(r'^\| `(\./dev [a-z-]+)', DEVELOPMENT, re.MULTILINE))
    named = {name for text in MARKDOWN.values() for name in re.findall(r'(\./dev [a-z][a-z-]*)', text)}
    assert named <= known


def test_every_figure_has_a_benchmark_that_measures_it() -> None:
    rows = [row for row in PERFORMANCE.splitlines() if re.match(r'\| \w', row)]
    measured_by = [re.search(r'`\./dev bench ([a-z]+)` \|$', row) for row in rows]
    assert len(rows) == 10
    assert {match and match[1] for match in measured_by} <= set(BENCHMARKS)
    named = {name for text in MARKDOWN.values() for name in re.findall(r'\./dev bench ([a-z]+)', text)}
    assert named <= set(BENCHMARKS)


def test_every_option_that_is_named_exists() -> None:
    chaos = subprocess.run([sys.executable, '-m', 'tests.chaos', '--help'], cwd=TOP, stdout=subprocess.PIPE, text=True,
                           check=True, timeout=60).stdout
    known = options_of(cli.new_parser()) | options_of(ctl.new_parser()) | set(re.findall(r'--[a-z]+', chaos))
    for path, text in MARKDOWN.items():
        named = set(re.findall(r'(?<![\w-])--[a-z][a-z_-]*', text))
        others = {'--all'} if path == 'doc/DEVELOPMENT.md' else {'--ff-only'} if path == 'README' else set()
        assert named - known == others, path


def test_every_argument_of_register_watch_that_is_named_exists() -> None:
    known = {name for tag in terms('twitcher.twc.5') for name in tag.split(', ') if name.islower()}
    for codes in CODE.values():
        assert {match[1] for code in codes for match in [re.match('([a-z_]+)=', code)] if match} <= known


@pytest.mark.parametrize('path', MARKDOWN)
def test_every_file_and_directory_that_is_named_exists(path: str) -> None:
    text = MARKDOWN[path]
    prefixes = 'bench|debian|doc|etc|man|tests|twitcher'
    named = set(re.findall(rf'(?<![\w/.])((?:{prefixes})/[\w./-]*\w)', text))
    assert [name for name in sorted(named) if not (TOP / name).exists()] == []
    links = re.findall(r'\]\(([^):]+)\)', text)
    assert [link for link in links if not (TOP / path).parent.joinpath(link).exists()] == []


def test_every_document_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r'\]\(((?:doc|man)/[^)]+)\)', MARKDOWN['README']))
    assert linked == {*DOCUMENTS, *(f'man/{page}' for page in PAGES)}


def test_every_guarantee_names_its_tests() -> None:
    chapters = re.split('^## ', GUARANTEES, flags=re.MULTILINE)[1:]
    assert len(chapters) == 10
    for chapter in chapters[:-1]:
        assert re.search(r'^Tested .*tests/', chapter, re.MULTILINE | re.DOTALL), chapter


def test_the_log_has_what_the_troubleshooting_quotes(twitcher: Twitcher, ensemble: Ensemble) -> None:
    quoted = {'connected': 'ZooKeeper: connected to', 'loaded': r'missing\.twc: loaded',
              'no permission to read': 'no permission to read /secret; trying again every 10 s',
              'exited 127': r'missing\.twc#1: pid \d+ exited 127', 'cannot be run': r'missing\.twc#2: .* cannot be run'}
    assert all(f'`{words}`' in TROUBLESHOOTING for words in quoted)
    ensemble.put('/a', '')
    ensemble.client.create('/secret', b'', acl=NOBODY_READS)
    twitcher.config('missing.twc', "RegisterWatch('/a', Exec('no-such-command; exit'))\n"
                                   "RegisterWatch('/a', Exec(['no-such-command']))\n"
                                   "RegisterWatch('/secret', Exec('true'))")
    (twitcher.configs / 'dangling.twc').symlink_to('nothing')
    (twitcher.configs / 'loud.TWC').touch()
    twitcher.start()
    for pattern in [*quoted.values(), r'WARNING: .*/loud\.TWC: ignored', r'WARNING: .*/dangling\.twc: ignored']:
        twitcher.wait_log(pattern)


def test_a_second_daemon_says_what_the_troubleshooting_quotes(twitcher: Twitcher) -> None:
    (quoted,) = re.findall('A second daemon says `(.*)`', TROUBLESHOOTING)
    twitcher.start()
    done = call('twitcher', '--zkservers', twitcher.hosts, '--config_path', twitcher.configs, '--state_dir',
                twitcher.directory / 'state', '--log_to_stdout')
    assert done.returncode == 1
    assert quoted.replace('/etc/twitcher', str(twitcher.configs)) in done.stderr.decode()


def test_git_complains_about_a_clone_of_another_user_as_the_troubleshooting_quotes(
        tmp_path: Path, shell_environment: Dict[str, str]) -> None:
    subprocess.run(['git', 'init', '-q', 'clone'], cwd=tmp_path, env=shell_environment, check=True, timeout=PATIENCE)
    subprocess.run(['chown', '-R', 'nobody', 'clone'], cwd=tmp_path, check=True, timeout=PATIENCE)
    done = subprocess.run(['git', 'pull'], cwd=tmp_path / 'clone', env=shell_environment, stderr=subprocess.PIPE, text=True,
                          timeout=PATIENCE)
    (quoted,) = re.findall('git complains about "(.*)"', TROUBLESHOOTING)
    assert quoted in done.stderr
