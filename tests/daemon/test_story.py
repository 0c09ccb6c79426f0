"""What Twitcher is for: a push to a git repository shows up in every clone."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import command

# Nothing of the configuration of whoever runs the tests.
IDENTITY = {'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_SYSTEM': '/dev/null', 'GIT_AUTHOR_NAME': 'a',
            'GIT_AUTHOR_EMAIL': 'a@b', 'GIT_COMMITTER_NAME': 'a', 'GIT_COMMITTER_EMAIL': 'a@b'}


def git(directory: Path, *arguments: str) -> str:
    """Run git there; its output."""
    result = subprocess.run(['git', '-C', str(directory), *arguments], env={**os.environ, **IDENTITY}, check=True,
                            capture_output=True, text=True, timeout=60)
    return result.stdout.strip()


class Repositories:
    """A bare repository that pokes /git/head after each push, a work tree to push from, and clones of it."""

    def __init__(self, directory: Path, hosts: str) -> None:
        self.directory = directory
        self.bare = directory / 'project.git'
        self.work = directory / 'work'
        git(directory, 'init', '--bare', '--initial-branch=main', str(self.bare))
        hook = self.bare / 'hooks' / 'post-receive'
        poke = shlex.join(command('twitcherctl', 'poke', '--zkservers', hosts, '/git/head'))
        hook.write_text(f'#!/bin/sh\nwhile read old new ref; do {poke} $new; done\n')
        hook.chmod(0o755)
        self.work = self.clone('work')

    def clone(self, name: str) -> Path:
        """A clone by this name."""
        git(self.directory, 'clone', str(self.bare), name)
        return self.directory / name

    def push(self, text: str) -> str:
        """Commit a file with the text and push it; the commit."""
        (self.work / 'file').write_text(text)
        git(self.work, 'add', 'file')
        git(self.work, 'commit', '-m', text)
        git(self.work, 'push', 'origin', 'HEAD:main')
        return git(self.work, 'rev-parse', 'HEAD')


@pytest.fixture
def repositories(tmp_path: Path, ensemble: Ensemble) -> Repositories:
    """With a first commit in them."""
    result = Repositories(tmp_path, ensemble.hosts)
    result.push('first')
    return result


def follow(twitcher: Twitcher, clone: Path) -> None:
    """Keep the clone current with a Twitcher, as README has it."""
    twitcher.config('git.twc', f"""\
        CLONE = '{clone}'
        RegisterWatch('/git/head',
                      Exec(['git', '-C', CLONE, 'pull', '--quiet', '--ff-only']))
    """)


def test_every_push_shows_up_in_the_clone_after_one_run_each(twitcher: Twitcher, ensemble: Ensemble,
                                                            repositories: Repositories) -> None:
    clone = repositories.clone('clone')
    follow(twitcher, clone)
    twitcher.start(environment=IDENTITY)
    twitcher.wait_log(r'git\.twc: pid \d+ exited 0')
    for number in range(1, 5):
        commit = repositories.push(f'push {number}')
        twitcher.wait_log(r'git\.twc: pid \d+ exited 0', count=number + 1)
        assert git(clone, 'rev-parse', 'HEAD') == commit
        assert (clone / 'file').read_text() == f'push {number}'
        assert ensemble.client.get('/git/head')[0] == commit.encode()
    twitcher.fence(ensemble)
    assert len(twitcher.started('git.twc')) == 5


def test_a_push_while_the_daemon_is_away_shows_up_when_it_is_back(twitcher: Twitcher, ensemble: Ensemble,
                                                                 repositories: Repositories) -> None:
    clone = repositories.clone('clone')
    follow(twitcher, clone)
    twitcher.start(environment=IDENTITY)
    twitcher.wait_log(r'git\.twc: pid \d+ exited 0')
    assert twitcher.stop() == 0
    repositories.push('meanwhile')
    commit = repositories.push('meanwhile, too')
    twitcher.start(environment=IDENTITY)
    twitcher.wait_log(r'git\.twc: pid \d+ exited 0', count=2)
    assert git(clone, 'rev-parse', 'HEAD') == commit
    twitcher.fence(ensemble)
    assert len(twitcher.started('git.twc')) == 2


def test_a_fleet_of_three_follows_the_same_pushes(twitcher: Twitcher, ensemble: Ensemble, repositories: Repositories,
                                                  tmp_path: Path) -> None:
    fleet = [twitcher]
    try:
        for name in ('second', 'third'):
            (tmp_path / name).mkdir()
            fleet.append(Twitcher(tmp_path / name, ensemble.hosts))
        clones = [repositories.clone(f'clone-{number}') for number in range(3)]
        for member, clone in zip(fleet, clones):
            follow(member, clone)
            member.start(environment=IDENTITY)
        for member in fleet:
            member.wait_log(r'git\.twc: pid \d+ exited 0')
        for number in (1, 2):
            commit = repositories.push(f'push {number}')
            for member, clone in zip(fleet, clones):
                member.wait_log(r'git\.twc: pid \d+ exited 0', count=number + 1)
                assert git(clone, 'rev-parse', 'HEAD') == commit
        for member in fleet:
            assert len(member.started('git.twc')) == 3
    finally:
        for member in fleet[1:]:
            member.close()


def test_a_pull_that_fails_says_why_in_the_log_and_the_next_push_is_tried(twitcher: Twitcher,
                                                                          repositories: Repositories) -> None:
    clone = repositories.clone('clone')
    follow(twitcher, clone)
    (clone / '.git' / 'index.lock').touch()
    twitcher.start(environment=IDENTITY)
    twitcher.wait_log(r'git\.twc: pid \d+ exited 0')  # nothing to merge
    repositories.push('blocked')
    twitcher.wait_log(r'git\.twc\[\d+\]: .*index\.lock')
    twitcher.wait_log(r'WARNING: git\.twc: pid \d+ exited [1-9]')
    (clone / '.git' / 'index.lock').unlink()
    commit = repositories.push('free')
    twitcher.wait_log(r'git\.twc: pid \d+ exited 0', count=2)
    assert git(clone, 'rev-parse', 'HEAD') == commit
