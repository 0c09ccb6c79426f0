"""Every command and every example of the README, run as a reader would."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Dict, Iterator

import pytest

from tests.packaging.deb.story import BUILD, CONFIGURE, INSTALL, START
from tests.packaging.documents import README, blocks, commands, languages, quoted_output, shape
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.waiting import wait_for
from twitcher import __version__
from twitcher.config.language import load_config

TRY_IT, POKE_IT, INSTALL_IT, INSTALL_HOOK, TEST_IT = commands(README)
(CONFIG,) = blocks(README, 'python')
(HOOK,) = blocks(README, 'sh')


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


def test_every_block_is_tested_here() -> None:
    assert sorted(languages(README)) == ['console'] * 5 + ['python', 'sh']
    assert TEST_IT == ['$ ./dev test']  # which runs this test


def test_web_views_find_the_readme_under_a_name_that_tells_its_format() -> None:
    assert (TOP / 'README.md').read_text() == README


def test_the_package_is_installed_as_dev_test_deb_does_it() -> None:
    assert [f'$ {BUILD}', f'# {INSTALL}', f'# {CONFIGURE}', f'# {START}'] == INSTALL_IT
    assert re.fullmatch(rf'apt-get install \./\.build/twitcher_{re.escape(__version__)}_all\.deb', INSTALL)
    assert re.search('^ZKSERVERS=', (TOP / 'etc' / 'default' / 'twitcher').read_text(), re.MULTILINE)


@pytest.mark.parametrize('path', sorted((TOP / 'etc' / 'examples').glob('*.twc')), ids=lambda path: str(path.name))
def test_every_file_of_the_examples_loads(path: Path) -> None:
    assert load_config(str(path), path.read_bytes())


def test_try_it(dev_run: Path) -> None:
    assert TRY_IT == ['$ ./dev run']
    found = wait_for('the command to poke with', lambda: re.search(r'for instance: (\S+ poke .*)', dev_run.read_text()))
    first_line, *_ = re.findall(r'twitcher\[\d+\] INFO: .*', dev_run.read_text())
    assert found[1] in first_line
    (poke,) = POKE_IT
    expected = re.escape(poke.replace('$ ', '', 1)).replace('12345', '[0-9]+').replace(r'\.venv/bin/', r'\S*/')
    assert re.fullmatch(expected, found[1])
    wait_for('the connection', lambda: 'ZooKeeper: connected' in dev_run.read_text())
    subprocess.run(found[1], shell=True, check=True, timeout=60)
    (printed,) = re.findall(r'what the script printed, `(.*)`', README)
    wait_for('what the script printed', lambda: printed in dev_run.read_text())


def test_the_story_of_one_repository_and_its_clones(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path,
                                                    shell_environment: Dict[str, str]) -> None:
    def git(*words: str) -> str:
        return subprocess.run(['git', *words], cwd=tmp_path, env=shell_environment, check=True, timeout=60, capture_output=True,
                              text=True).stdout.strip()

    git('init', '-q', '--bare', 'server')
    git('clone', '-q', 'server', 'desk')
    hook = tmp_path / 'server' / 'hooks' / 'post-receive'
    (install,) = INSTALL_HOOK
    subprocess.run(install.replace('# ', '', 1).replace('/srv/git/project.git', str(tmp_path / 'server')), shell=True,
                   check=True, cwd=TOP)
    hook.write_text(hook.read_text().replace('localhost:2181', ensemble.hosts))

    def push(message: str) -> str:
        git('-C', 'desk', 'commit', '-q', '--allow-empty', '-m', message)
        assert git('-C', 'desk', 'push', '-q', 'origin', 'HEAD') == ''
        return git('-C', 'desk', 'rev-parse', 'HEAD')

    def is_at(head: str) -> bool:
        return git('-C', 'clone', 'rev-parse', 'HEAD') == head

    push('the first')
    git('clone', '-q', 'server', 'clone')
    twitcher.config('git.twc', CONFIG.replace('/srv/clone', str(tmp_path / 'clone')))
    twitcher.start(environment=shell_environment)
    for number in range(3):
        head = push(f'number {number}')
        wait_for('the push in the clone', partial(is_at, head))
        twitcher.wait_log('git.twc: pid .* exited 0', count=number + 2)
    twitcher.fence(ensemble)
    assert len(twitcher.started('git.twc')) == 4
    shown = quoted_output(README)
    assert len(shown) == 2
    for line in shown:
        twitcher.wait_log(shape(line).replace(']:', '] INFO:', 1) + '$')
    assert twitcher.printed('git.twc') == []  # as the README shows it, nothing stands between these lines


def test_the_hook_is_the_one_of_the_examples() -> None:
    assert (TOP / 'etc' / 'examples' / 'git' / 'post-receive').read_text() == HOOK


def test_a_push_does_not_wait_long_for_machines_that_cannot_be_told(tmp_path: Path, shell_environment: Dict[str, str]) -> None:
    hook = tmp_path / 'hook'
    hook.write_text(HOOK.replace('localhost:2181', '127.0.0.1:1'))
    done = subprocess.run(['sh', str(hook)], input='0 1 refs/heads/any\n', text=True, env=shell_environment,
                          capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, '')
    assert re.fullmatch('twitcherctl: .* did not answer within 2 s.*\n'
                        'machines were not told; run: twitcherctl poke --zkservers 127.0.0.1:1 /git/head\n', done.stderr)


def test_the_manual_pages_of_a_checkout_can_be_read() -> None:
    (command,) = re.findall('`(man man/.*?)`', README)
    shown = subprocess.run(command, shell=True, cwd=TOP, capture_output=True, text=True, check=True, timeout=60).stdout
    assert 'RegisterWatch(znode, action' in shown


def test_the_versions_that_are_required_are_those_of_the_installation() -> None:
    setup = (TOP / 'setup.py').read_text()
    pattern = r'Python (3\.\d+) to 3\.14, kazoo ([\d.]+) or later, python-daemon ([\d.]+) or\s+later'
    ((python, kazoo, daemon),) = re.findall(pattern, README)
    assert f"python_requires='>={python}'" in setup
    assert f"'kazoo>={kazoo}." in setup and f"'python-daemon>={daemon}'" in setup
    assert 'range(9, 15)' in setup
