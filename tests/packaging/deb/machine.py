"""A fresh Debian in a directory: what runs in it, what it logs, which files it has; and that Debian booted, with systemd."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Callable, Dict, List, Set

from tests.support.waiting import wait_for

ENVIRONMENT = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root', 'LANG': 'C.UTF-8', 'DEBIAN_FRONTEND': 'noninteractive',
               'TERM': 'dumb'}
KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
# What apt, dpkg and the test itself write, or the kernel shows.
_PASSING = re.compile(r'/(proc|sys|dev|tmp|root)/|/var/(log|cache|lib/apt|backups)/|/var/lib/dpkg/[^/]+$|\.dpkg-')


class Machine:
    """A Debian of the release below `root`. Downloads are kept in `cache`."""

    def __init__(self, root: Path, release: str, cache: Path) -> None:
        self.root = root
        self.release = release
        self._cache = cache
        self._enter = ['chroot', str(root)]

    def install(self) -> None:
        """Make it, from the mirror that this machine's apt uses, and with its way to get there."""
        cache = self._cache / 'debootstrap'
        cache.mkdir(parents=True, exist_ok=True)
        self._say(f'debootstrap {self.release}')
        with (self.root.parent / 'debootstrap.log').open('w') as log:
            done = subprocess.run(['debootstrap', '--variant=minbase', f'--keyring={KEYRING}', f'--cache-dir={cache}',
                                   self.release, str(self.root), _mirror()], stdout=log, stderr=log, check=False)
        assert done.returncode == 0, (self.root.parent / 'debootstrap.log').read_text()[-2000:]
        settings = subprocess.run(['apt-config', 'dump', 'Acquire'], stdout=subprocess.PIPE, text=True, check=True).stdout
        if os.path.exists(CERTIFICATES):
            shutil.copy(CERTIFICATES, self.root / 'etc' / 'host-certificates.crt')
            settings += 'Acquire::https::CaInfo "/etc/host-certificates.crt";\n'
        settings += 'Dpkg::Use-Pty "0";\n'
        (self.root / 'etc' / 'apt' / 'apt.conf.d' / '99host').write_text(settings)
        shutil.copy('/etc/resolv.conf', self.root / 'etc' / 'resolv.conf')
        self._mount()
        self.run('apt-get update -q')

    def copy(self, root: Path) -> Machine:
        """Another one that is the same."""
        subprocess.run(['cp', '--archive', '--one-file-system', str(self.root), str(root)], check=True)
        other = Machine(root, self.release, self._cache)
        other._mount()
        return other

    def run(self, command: str, code: int = 0) -> str:
        """Run a shell command in it, and show it; what it prints. The command must end with the exit code."""
        self._say(f'$ {command}')
        done = self._call(command)
        lines = done.stdout.splitlines()
        for line in [*lines[:3], '...', *lines[-6:]] if len(lines) > 10 else lines:
            self._say(f'  {line}')
        self._say(f'  exit code {done.returncode}')
        assert done.returncode == code, f'{command!r} exited {done.returncode}, not {code}: {done.stdout[-3000:]}'
        return done.stdout

    def ask(self, command: str) -> str:
        """What a shell command prints, however it ends."""
        return self._call(command).stdout.strip()

    def boot(self, cgroup: str) -> subprocess.Popen[bytes]:
        """Start its systemd as the first process of a system of its own, with a control group of that name. The process that is
        returned takes all of it with it when it is killed. From now on commands run there."""
        (self.root / 'etc/systemd/system/getty.target').symlink_to('/dev/null')  # the terminals are not ours
        cgroups = self.root.parent / 'cgroups'
        cgroups.mkdir()
        # systemd finds all file systems mounted, / as well, and leaves alone what is read-only: this kernel's settings.
        process = subprocess.Popen(['sh', '-euc', """
            mount -t cgroup2 cgroup2 "$2"
            mkdir -p "$2/$3"
            echo $$ > "$2/$3/cgroup.procs"
            exec unshare --mount --pid --cgroup --uts --ipc --fork --kill-child sh -euc '
                mount --rbind "$1" "$1"
                mount --bind "$1/dev" "$1/dev"
                mount -t proc proc "$1/proc"
                mount --bind -o ro "$1/proc/sys" "$1/proc/sys"
                mount -o remount,bind,ro "$1/proc/sys"
                mount -t sysfs -o ro sysfs "$1/sys"
                mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
                mount -t tmpfs tmpfs "$1/run"
                exec env container=other chroot "$1" /lib/systemd/systemd --show-status=no' sh "$1"
            """, 'sh', str(self.root), str(cgroups), cgroup], env=ENVIRONMENT, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL)
        self._say('booting')
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        (init,) = wait_for('systemd', lambda: set(self.processes('systemd')) & set(map(int, children.read_text().split())))
        self._enter = ['nsenter', f'--target={init}', '--all', '--root', '--wd']
        try:
            wait_for('the end of the boot', lambda: self.ask('systemctl is-system-running') in ('running', 'degraded'))
        except AssertionError as error:
            raise AssertionError(f'{error}: {self.ask("systemctl is-system-running; systemctl list-jobs")}') from None
        self._say(f'booted: {self.ask("systemctl --version").splitlines()[0]}')
        return process

    def check(self, fact: str, is_so: object) -> None:
        """Say what has been looked at, and fail if it is not so."""
        self._say(f'{"yes" if is_so else "NO"}: {fact}')
        assert is_so, fact

    def wait(self, fact: str, probe: Callable[[], object]) -> None:
        """Wait until the probe is true."""
        wait_for(fact, probe)
        self.check(fact, True)

    def files(self) -> Set[str]:
        """The paths of all its files and directories, but for what comes and goes by itself."""
        paths = set()
        for directory, directories, files in os.walk(self.root):
            for name in [*directories, *files]:
                path = '/' + os.path.relpath(os.path.join(directory, name), self.root)
                if not _PASSING.search(path):
                    paths.add(path)
            if directory == str(self.root):
                directories[:] = [name for name in directories if name not in ('proc', 'sys')]
        return paths

    def processes(self, name: str) -> List[int]:
        """The pids of the processes with this name."""
        found = []
        for entry in Path('/proc').glob('[0-9]*/comm'):
            try:
                if entry.read_text().strip() == name:
                    found.append(int(entry.parent.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def path(self, path: str) -> Path:
        """One of its files, as it is seen from outside."""
        return self.root / path.lstrip('/')

    def _call(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._enter, 'sh', '-c', command], env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace', check=False)

    def _mount(self) -> None:
        archives = self._cache / self.release
        archives.mkdir(parents=True, exist_ok=True)
        subprocess.run(['mount', '--bind', str(archives), str(self.root / 'var/cache/apt/archives')], check=True)
        subprocess.run(['mount', '-t', 'proc', 'proc', str(self.root / 'proc')], check=True)

    def _say(self, line: str) -> None:
        print(f'{self.release}: {line}', flush=True)


class Syslog:
    """What listens on the /dev/log of a machine."""

    def __init__(self, machine: Machine) -> None:
        self.records: List[str] = []
        self._machine = machine
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(machine.path('/dev/log')))
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self, pattern: str, after: int = 0) -> Dict[str, str]:
        """The named groups of the first record in which the regular expression is found, when it has come."""
        def probe() -> List[re.Match[str]]:
            return [match for match in (re.search(pattern, record) for record in self.records[after:]) if match]

        try:
            (match, *_) = wait_for(f'{pattern!r} in the log', probe)
        except AssertionError as error:
            raise AssertionError(f'{error}; it has {self.records[after:]}') from None
        self._machine.check(f'logged: {match.string}', True)
        return match.groupdict()

    def _listen(self) -> None:
        while True:
            self.records.append(self._socket.recv(65536).decode(errors='replace'))


def _mirror() -> str:
    """What MIRROR says, or where this machine has its own Debian from."""
    found = subprocess.run(['apt-get', 'indextargets', '--format', '$(REPO_URI)', 'Label: Debian', 'Created-By: Packages'],
                           stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    mirror = os.environ.get('MIRROR') or (found[0] if found else '')
    assert mirror, 'apt has no Debian mirror here: run apt-get update, or name one (MIRROR=http://...)'
    return mirror
