"""Every command and every example of the README, run as a reader would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.packaging.deb.story import BUILD, CONFIGURE, INSTALL, START
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.waiting import Trace, wait_for
from twitcher import __version__
from twitcher.config.language import load_config

README = (TOP / 'README').read_text()
BLOCKS = re.findall(r'^( *)```(\w+)\n(.*?)^\1```$', README, re.MULTILINE | re.DOTALL)
PYTHON = [text for _, language, text in BLOCKS if language == 'python']
HOOK = [text for _, language, text in BLOCKS if language == 'sh']
CONSOLE = [[line[2:] for line in text.splitlines()] for _, language, text in BLOCKS if language == 'console']


@pytest.fixture
def commands(tmp_path: Path) -> Dict[str, str]:
    """An environment whose PATH has twitcher and twitcherctl as they are here, and a git that asks for nothing."""
    directory = tmp_path / 'bin'
    directory.mkdir()
    for name in ('twitcher', 'twitcherctl'):
        (directory / name).write_text(f'#!/bin/sh\nexec {sys.executable} {TOP}/bin/{name} "$@"\n')
        (directory / name).chmod(0o755)
    who = {'GIT_AUTHOR_NAME': 'a', 'GIT_AUTHOR_EMAIL': 'a@example.org', 'GIT_COMMITTER_NAME': 'a',
           'GIT_COMMITTER_EMAIL': 'a@example.org', 'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_SYSTEM': '/dev/null'}
    return {**os.environ, **who, 'PATH': f'{directory}:{os.environ["PATH"]}'}


@pytest.fixture
def dev_run(tmp_path: Path) -> Iterator[Path]:
    """The output of a running `./dev run`."""
    output = tmp_path / 'dev'
    with output.open('wb') as file:
        process = subprocess.Popen(['./dev', 'run'], cwd=TOP, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                                   start_new_session=True)
    yield output
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(40) == 0
    assert 'ended' in output.read_text()


def test_the_blocks_are_those_that_are_tested_here() -> None:
    assert [lines[0].split()[0] for lines in CONSOLE] == ['./dev', '.venv/bin/twitcherctl', 'install', './dev', 'twitcher',
                                                       'twitcherctl', './dev']
    assert len(HOOK) == 1
    assert {language for _, language, _ in BLOCKS} == {'console', 'sh', 'python'}


def test_the_package_is_installed_as_dev_test_deb_does_it() -> None:
    assert CONSOLE[3] == [BUILD, INSTALL, CONFIGURE, START]
    assert re.fullmatch(rf'apt-get install \./\.build/twitcher_{re.escape(__version__)}_all\.deb', INSTALL)
    assert re.search('^ZKSERVERS=', (TOP / 'etc' / 'default' / 'twitcher').read_text(), re.MULTILINE)


@pytest.mark.parametrize('text', PYTHON)
def test_every_example_loads(text: str) -> None:
    assert load_config('/etc/twitcher/example.twc', text.encode())


@pytest.mark.parametrize('path', sorted((TOP / 'etc' / 'examples').glob('*.twc')), ids=lambda path: str(path.name))
def test_every_file_of_the_examples_loads(path: Path) -> None:
    assert load_config(str(path), path.read_bytes())


def test_try_it(dev_run: Path) -> None:
    first, second = CONSOLE[0], CONSOLE[1]
    assert first == ['./dev run']
    found = wait_for('the command to poke with', lambda: re.search(r'for instance: (\S+ poke .*)', dev_run.read_text()))
    shape = re.sub(r'12345', r'[0-9]+', re.escape(second[0])).replace(r'\.venv/bin/', r'\S*/')
    assert re.fullmatch(shape, found[1])
    wait_for('the connection', lambda: 'ZooKeeper: connected' in dev_run.read_text())
    subprocess.run(found[1], shell=True, check=True, timeout=60)
    wait_for('what the example says', lambda: 'hello, world, from version 0' in dev_run.read_text())


def test_the_story_of_one_repository_and_its_clones(twitcher: Twitcher, ensemble: Ensemble, commands: Dict[str, str],
                                                    tmp_path: Path) -> None:
    def git(*words: str) -> str:
        return subprocess.run(['git', *words], cwd=tmp_path, env=commands, check=True, timeout=60, capture_output=True,
                              text=True).stdout.strip()

    git('init', '-q', '--bare', 'server')
    git('clone', '-q', 'server', 'desk')
    hook = tmp_path / 'server' / 'hooks' / 'post-receive'
    (install,) = CONSOLE[2]
    subprocess.run(install.replace('/srv/git/project.git', str(tmp_path / 'server')), shell=True, check=True, cwd=TOP)
    hook.write_text(hook.read_text().replace('--wait 2', f'--wait 2 --zkservers {ensemble.hosts}'))

    def push(message: str) -> str:
        git('-C', 'desk', 'commit', '-q', '--allow-empty', '-m', message)
        assert git('-C', 'desk', 'push', '-q', 'origin', 'HEAD') == ''
        return git('-C', 'desk', 'rev-parse', 'HEAD')

    def is_at(head: str) -> bool:
        return git('-C', 'clone', 'rev-parse', 'HEAD') == head

    push('the first')
    git('clone', '-q', 'server', 'clone')
    twitcher.config('git.twc', PYTHON[0].replace('/srv/clone', str(tmp_path / 'clone')))
    twitcher.start(environment=commands)
    for number in range(3):
        head = push(f'number {number}')
        wait_for('the push in the clone', partial(is_at, head))
        twitcher.wait_log('git.twc: pid .* exited 0', count=number + 2)
    twitcher.fence(ensemble)
    assert len(twitcher.started('git.twc')) == 4


def test_the_hook_is_the_one_of_the_examples() -> None:
    def commands_of(text: str) -> List[str]:
        return [line for line in text.splitlines() if not line.startswith('# ')]

    hook = (TOP / 'etc' / 'examples' / 'git' / 'post-receive').read_text()
    assert commands_of(HOOK[0].replace('--zkservers localhost:2181 ', '')) == commands_of(hook)


def test_a_push_does_not_wait_long_for_machines_that_cannot_be_told(tmp_path: Path, commands: Dict[str, str]) -> None:
    hook = tmp_path / 'hook'
    text = (TOP / 'etc' / 'examples' / 'git' / 'post-receive').read_text()
    hook.write_text(text.replace('poke', 'poke --zkservers 127.0.0.1:1'))
    done = subprocess.run(['sh', str(hook)], input='0 1 refs/heads/any\n', text=True, env=commands, capture_output=True)
    assert (done.returncode, done.stdout) == (0, '')
    assert re.fullmatch('twitcherctl: .* did not answer within 2 s.*\n', done.stderr)


def test_the_functions_of_the_second_example_do_what_they_say(twitcher: Twitcher, ensemble: Ensemble) -> None:
    (text,) = [text for text in PYTHON if 'apply_limit' in text]
    twitcher.config('limit.twc', text)
    ensemble.put('/app/settings', 'limit=1')
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/app/settings', 'limit=20\n')
    twitcher.wait_log(r'limit.twc\[\d+\]: the limit is 20')
    twitcher.wait_log(r'limit.twc: pid \d+ exited 0')
    ensemble.put('/app/settings', 'limit=200\n')
    twitcher.wait_log(r'limit.twc: pid \d+ exited 1')
    assert len(twitcher.started('limit.twc')) == 2


def test_the_members_of_a_group_are_written_to_a_file(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    (text,) = [text for text in PYTHON if 'WATCH_CHILDREN' in text]
    twitcher.config('servers.twc', text.replace('/run/servers', str(trace)))
    twitcher.start()
    for name in ('b', 'a'):
        ensemble.client.create(f'/app/servers/{name}', makepath=True)
    wait_for('both names', lambda: trace.lines() == ['a', 'b'])


def test_starting_rereading_and_stopping(twitcher: Twitcher, ensemble: Ensemble, commands: Dict[str, str],
                                         tmp_path: Path) -> None:
    pidfile = tmp_path / 'pid'

    def do(command: str) -> None:
        for name, value in (('localhost:2181', ensemble.hosts), ('/etc/twitcher', str(twitcher.configs)),
                            ('/run/twitcher.pid', str(pidfile))):
            command = command.replace(name, value)
        subprocess.run(command, shell=True, env=commands, check=True, timeout=60)

    start, reread, stop = CONSOLE[4]
    do(f'{start} --logfile {twitcher.log_path} --state_dir {tmp_path}/state')
    twitcher.wait_log('ZooKeeper: connected')
    do(reread)
    twitcher.wait_log('SIGHUP')
    do(stop)
    twitcher.wait_log('ended')
    wait_for('the pidfile to go', lambda: not pidfile.exists())


def test_the_pokes_of_twitcherctl(ensemble: Ensemble, commands: Dict[str, str]) -> None:
    def do(command: str) -> str:
        return subprocess.run(command.replace('localhost:2181', ensemble.hosts), shell=True, env=commands, check=True,
                              timeout=60, capture_output=True, text=True).stdout

    printed: List[str] = [do(command) for command in CONSOLE[5]]
    assert printed == ['0\n', '1\n', '2\n']
    assert ensemble.client.get('/app/settings')[0] == b'limit=30\n'


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r'tests/[a-z_./]*[a-z]', README))
    assert len(named) > 8
    assert [path for path in sorted(named) if not (TOP / path).exists()] == []
