"""What is built from this checkout: a source distribution that is complete, and a wheel that installs and runs."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.waiting import PATIENCE, wait_for
from twitcher import __version__

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith('PYTHON')}


@dataclass(frozen=True)
class Built:
    """A copy of the checkout, what its source distribution was unpacked to, and an environment with its wheel."""

    checkout: Path
    unpacked: Path
    environment: Path

    def call(self, *words: str) -> str:
        """What a program of the environment prints."""
        return subprocess.run([self.environment / 'bin' / words[0], *words[1:]], cwd='/', env=ENVIRONMENT, check=True,
                              timeout=PATIENCE, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All that takes time, once. No network is used: what is needed to build and to run, the running Python has."""
    directory = tmp_path_factory.mktemp('install')
    checkout, output, environment = (directory / name for name in ('checkout', 'output', 'environment'))
    shutil.copytree(TOP, checkout, ignore=shutil.ignore_patterns('.*', '__pycache__', '*.egg-info', 'build', 'dist'),
                    symlinks=True)
    _run('-m', 'build', '--no-isolation', '--outdir', output, checkout)  # the wheel from the source distribution
    shutil.rmtree(checkout / 'twitcher.egg-info')
    (directory / 'unpacked').mkdir()
    subprocess.run(['tar', '-xf', output / f'twitcher-{__version__}.tar.gz'], cwd=directory / 'unpacked', check=True)
    _run('-m', 'venv', '--without-pip', environment)
    _run('-m', 'pip', '--python', environment / 'bin' / 'python', 'install', '--no-deps', '--no-index', *output.glob('*.whl'))
    site, = environment.glob('lib/python3.*/site-packages')
    (site / 'requirements.pth').write_text(sysconfig.get_path('purelib'))
    return Built(checkout, directory / 'unpacked' / f'twitcher-{__version__}', environment)


def _run(*words: object) -> None:
    """Run Python."""
    done = subprocess.run([sys.executable, *map(str, words)], cwd='/', env=ENVIRONMENT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def modes(top: Path) -> Dict[str, bool]:
    """All files below, and whether they may be executed."""
    return {str(path.relative_to(top)): os.access(path, os.X_OK) for path in top.rglob('*')
            if path.is_file() and '__pycache__' not in path.parts}


def test_the_source_distribution_holds_the_checkout_and_what_it_is_made_with(built: Built) -> None:
    assert (built.unpacked / 'README.md').read_text() == (TOP / 'README').read_text()
    ours, theirs = modes(built.checkout), modes(built.unpacked)
    assert {name: theirs.get(name) for name in ours} == ours
    assert sorted(name for name in theirs if name not in ours and not name.startswith('twitcher.egg-info/')) == [
        'PKG-INFO', 'setup.cfg']


def test_the_tests_run_from_an_unpacked_source_distribution(built: Built) -> None:
    done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests/watches/test_turns.py'],
                          cwd=built.unpacked, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and ' passed' in done.stdout, done.stdout
    done = subprocess.run([sys.executable, '-m', 'tests.chaos', '--help'], cwd=built.unpacked, env=ENVIRONMENT,
                          stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and done.stdout.startswith('usage: python -m tests.chaos')


@pytest.mark.parametrize('words', [['twitcher'], ['twitcherctl'], ['python', '-m', 'twitcher']], ids=' '.join)
def test_the_installed_programs_tell_their_version(built: Built, words: List[str]) -> None:
    assert built.call(*words, '--version') == f'{words[-1]} {__version__}\n'
    assert built.call(*words, '--help').startswith(f'usage: {words[-1]} ')


def test_what_is_installed_is_not_the_checkout(built: Built) -> None:
    site, = built.environment.glob('lib/python3.*/site-packages')
    assert built.call('python', '-c', 'import twitcher; print(twitcher.__file__)') == f'{site}/twitcher/__init__.py\n'


def test_pages_examples_and_documents_are_installed(built: Built) -> None:
    share = built.environment / 'share'
    installed = sorted(str(path.relative_to(share)) for path in share.rglob('*') if path.is_file())
    pages = [f'man/man{path.suffix[1:]}/{path.name}' for path in TOP.glob('man/*')]
    below = TOP / 'etc' / 'examples'
    examples = [f'doc/twitcher/examples/{path.relative_to(below)}' for path in below.rglob('*') if path.is_file()]
    documents = [f'doc/twitcher/{path.relative_to(TOP)}' for path in [TOP / 'README', *TOP.glob('doc/*')]]
    assert len(pages) >= 3 and len(examples) >= 3 and len(documents) >= 5
    assert installed == sorted([*pages, *examples, *documents, 'bash-completion/completions/twitcher'])


def test_the_package_says_what_it_is_and_needs(built: Built) -> None:
    site, = built.environment.glob('lib/python3.*/site-packages')
    installed = metadata.Distribution.at(site / f'twitcher-{__version__}.dist-info')
    about = installed.metadata
    assert (about['Version'], about['License'], about['Requires-Python']) == (__version__, 'Apache-2.0', '>=3.9')
    assert f'Copyright: 2026 {about["Author"]}\n' in (TOP / 'debian' / 'copyright').read_text()
    required = [line for line in about.get_all('Requires-Dist', []) if 'extra ==' not in line]
    assert sorted(line.partition('>=')[0].partition(';')[0] for line in required) == [
        'kazoo', 'pyasyncore', 'pyinotify', 'python-daemon']
    assert (TOP / 'README').read_text().strip() in (installed.read_text('METADATA') or '')


@pytest.fixture
def daemon(built: Built, ensemble: Ensemble, tmp_path: Path) -> Iterator[Path]:
    """The log of an installed daemon, that prints the contents of /a."""
    (tmp_path / 'a.twc').write_text("RegisterWatch('/a', Exec('cat'))\nRegisterWatch('/a', lambda: print(input()))\n")
    process = subprocess.Popen([built.environment / 'bin' / 'twitcher', '--config_path', tmp_path, '--state_dir', tmp_path,
                                '--zkservers', ensemble.hosts, '--logfile', tmp_path / 'log'], env=ENVIRONMENT, cwd='/')
    try:
        yield tmp_path / 'log'
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def test_the_installed_daemon_runs_actions_and_logs_what_they_print(daemon: Path, ensemble: Ensemble) -> None:
    ensemble.put('/a', 'hello')
    wait_for('both lines', lambda: daemon.exists() and len(re.findall(r'INFO: a\.twc#[12]\[\d+\]: hello$', daemon.read_text(),
                                                                     re.MULTILINE)) == 2)
