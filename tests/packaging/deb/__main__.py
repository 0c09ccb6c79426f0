"""The Debian package as a user meets it, in a fresh Debian of each release: built, checked by lintian, installed with apt,
configured, started, reloaded, restarted, upgraded, stopped, removed and purged; once with the init script, and once under
systemd. Run by `./dev test-deb`.

Everything happens in a PID and a mount namespace of its own, so that whatever was started or mounted ends with it, however
it ends. Nothing is left but what was downloaded, in .build/cache, for the next time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import List, NoReturn, Optional

from tests.packaging.deb.machine import Machine
from tests.packaging.deb.story import be_used, build
from tests.packaging.deb.systemd import be_managed
from tests.support.programs import TOP
from twitcher.zookeeper.throwaway import ThrowAwayServer

RELEASES = ('bookworm', 'trixie')

# Control groups are of no namespace, and stay.
_REMOVE_CGROUPS = 'mount -t cgroup2 cgroup2 "$1"; if [ -d "$1/$2" ]; then find "$1/$2" -depth -type d -exec rmdir {} +; fi'


def main() -> None:
    """The command line."""
    inside, releases = (sys.argv[2], sys.argv[3:]) if sys.argv[1:2] == ['--inside'] else ('', sys.argv[1:] or list(RELEASES))
    if not set(releases) <= set(RELEASES):
        sys.exit(f'usage: python -m tests.packaging.deb [{"|".join(RELEASES)}]...')
    if inside:
        sys.exit(_test_all(Path(inside), releases))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _told_to_stop)
    directory = tempfile.mkdtemp(prefix='twitcher-deb-')
    # A shell as the first process there: it reaps what loses its parent, as init does.
    process = subprocess.Popen([
        'unshare', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc',
        'sh', '-c', '"$@"; exit $?', 'sh', sys.executable, '-m', 'tests.packaging.deb', '--inside', directory, *releases])
    try:
        code = process.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        process.kill()
        process.wait()
        subprocess.run(['unshare', '--mount', 'sh', '-ec', _REMOVE_CGROUPS, 'sh', directory, os.path.basename(directory)],
                       check=True)
        shutil.rmtree(directory)
    sys.exit(code)


def _told_to_stop(signum: int, frame: Optional[FrameType]) -> NoReturn:
    sys.exit(f'told to stop by {signal.Signals(signum).name}')


def _test_all(directory: Path, releases: List[str]) -> int:
    """Test each release; the exit code."""
    failed = []
    for release in releases:
        try:
            _test(directory / release, release)
        except Exception as error:  # the next release is worth a look all the same
            print(f'== {release} FAILED: {error}', flush=True)
            failed.append(release)
    print(f'{len(releases) - len(failed)} passed, {len(failed)} failed')
    return 1 if failed else 0


def _test(directory: Path, release: str) -> None:
    directory.mkdir()
    fresh = Machine(directory / 'fresh', release, TOP / '.build' / 'cache')
    fresh.install()
    booted = fresh.copy(directory / 'booted')
    package = build(fresh.copy(directory / 'build'))
    server = ThrowAwayServer()
    try:
        server.start()
        be_used(fresh, package, server.hosts)
        be_managed(booted, package, server.hosts, f'{directory.parent.name}/{release}')
    finally:
        server.remove()
    print(f'== {release}: all as it should be', flush=True)


if __name__ == '__main__':
    main()
