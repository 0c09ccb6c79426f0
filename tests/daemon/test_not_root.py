"""A daemon that is not root's: what names the very user that it runs as needs no change of user, and nothing else loads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP

SETPRIV = ['setpriv', '--reuid=nobody', '--regid=nogroup']


LIBRARIES = ('kazoo', 'pyinotify.py', 'daemon', 'lockfile', 'asyncore', 'asyncore.py', 'asynchat.py')


@pytest.fixture
def nobodys(root: Path, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> Iterator[Twitcher]:
    """A daemon in a directory that is nobody's. It runs a copy of the program, and of its libraries: the checkout may lie in a
    directory that is closed to nobody."""
    code = root.parent / 'code'
    for name in ('bin', 'twitcher'):
        shutil.copytree(TOP / name, code / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in LIBRARIES:
        library = Path(sysconfig.get_path('purelib'), name)
        if library.is_dir():
            shutil.copytree(library, code / name, ignore=shutil.ignore_patterns('__pycache__', 'tests'))
        elif library.exists():
            shutil.copy(library, code)
    subprocess.run(['chmod', '-R', 'a+rX', str(code)], check=True)
    monkeypatch.setattr('tests.support.programs.TOP', code)
    monkeypatch.setattr(sys, 'executable', os.path.realpath(sys.executable))
    monkeypatch.setenv('PYTHONPATH', str(code))
    os.chown(root, 65534, 65534)
    daemon = Twitcher(root, ensemble.hosts)
    yield daemon
    daemon.close()


IDS = '''
def ids():
    import os
    print(os.getuid(), os.getgid(), os.environ['USER'], len(input()))
command = 'read line; echo `id -u` `id -g` $USER ${#line}'
'''


@pytest.mark.parametrize('groups', ['--clear-groups', '--init-groups'])
def test_an_action_may_name_the_user_that_the_daemon_runs_as(
        nobodys: Twitcher, ensemble: Ensemble, groups: str) -> None:
    cases = ['', "uid='nobody'", 'uid=65534', "uid='nobody', gid='nogroup'", "gid='nogroup'"]
    text = IDS
    for number, who in enumerate(cases):
        for action in ('Exec(command)', 'ids'):
            text += f"RegisterWatch('/u', {action}, description='{action} {number}', {who})\n"
    nobodys.config('u.twc', text)
    ensemble.put('/u', b'x' * 1000 + b'\n')
    nobodys.start(wrapper=[*SETPRIV, groups])
    for number in range(len(cases)):
        for action in ('Exec(command)', 'ids'):
            assert nobodys.wait_printed(f'{action} {number}', 1) == ['65534 65534 nobody 1000']


@pytest.mark.parametrize(('who', 'groups', 'told'), [
    ("uid='nobody'", ['--groups', '54321'],
     "uid='nobody', gid=None: only root may change the supplementary groups, which would be 65534; twitcher has 54321"),
    ("gid='nogroup'", ['--groups', '54321,65534'],
     "uid=None, gid='nogroup': only root may change the supplementary groups, which would be 65534; "
     'twitcher has 54321, 65534'),
    ("uid='root'", ['--clear-groups'], "uid='root', gid=None: only root may run actions as somebody else"),
    ("uid='nobody', gid=54321", ['--clear-groups'], "uid='nobody', gid=54321: only root may run actions as somebody else"),
])
def test_what_only_root_could_honour_does_not_load(
        nobodys: Twitcher, ensemble: Ensemble, who: str, groups: List[str], told: str) -> None:
    nobodys.config('u.twc', f"RegisterWatch('/u', Exec('id'), {who})")
    ensemble.put('/u', '')
    nobodys.start(wrapper=[*SETPRIV, *groups])
    nobodys.wait_log(f'ERROR: .*u.twc:1: {told}.*; not loaded')
