"""What is done with the package on a machine with init scripts, and what has to come of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path
from typing import List, Set

from tests.packaging.deb.machine import Machine, Syslog
from tests.support.processes import is_alive
from tests.support.programs import TOP

DAEMON_INFO = 3 * 8 + 6  # facility and severity: syslog(3)
# What the README says.
BUILD, INSTALL, CONFIGURE, START = re.findall(
    r'^```console\n\$ (\./dev deb)\n# (.+)\n# (.+)\n# (.+)\n```$', (TOP / 'README').read_text(), re.MULTILINE)[0]
APT = 'apt-get install -q -y --no-install-recommends'
CONFIG = """\
RegisterWatch('/deb/short', Exec('echo said $(cat) $EXTRA ${DEBIAN_FRONTEND-nothing}'), description='short')
RegisterWatch('/deb/long', Exec('echo begun; x=$(cat); until [ -e /tmp/$x ]; do sleep 0.1; done; echo finished'),
              description='long', run_on_load=False)
"""


def build(machine: Machine) -> Path:
    """Build the package from this checkout, as a user would; lintian has nothing to say. Where it is."""
    checkout = machine.path('/root/twitcher')
    shutil.copytree(TOP, checkout, ignore=shutil.ignore_patterns('.*', '__pycache__', '*.egg-info'), symlinks=True)
    before = {path for path in checkout.rglob('*')}
    machine.run(f'cd /root/twitcher && {BUILD}')
    machine.check('the checkout is as it was', {path for path in checkout.rglob('*') if '.build' not in path.parts} == before)
    package = Path(checkout, INSTALL.split()[-1])
    machine.run(f'{APT} lintian')
    machine.run('cd /root && dpkg-source --build twitcher')
    machine.run(f'lintian --allow-root --fail-on error,warning /root/*.dsc /root/twitcher/.build/{package.name}')
    return package


def be_used(machine: Machine, package: Path, hosts: str) -> None:
    """The life of the package on a machine, from its installation to its purge."""
    shutil.copy(package, machine.path('/tmp/twitcher.deb'))
    machine.run('apt-get satisfy -q -y --no-install-recommends "$(dpkg-deb --field /tmp/twitcher.deb Pre-Depends), '
                '$(dpkg-deb --field /tmp/twitcher.deb Depends)"')
    # Without an init system maintainer scripts start nothing, unless they are told that they may.
    machine.path('/usr/sbin/policy-rc.d').write_text('#!/bin/sh\nexit 0\n')
    machine.path('/usr/sbin/policy-rc.d').chmod(0o755)
    before = machine.files()
    syslog = Syslog(machine)
    _install(machine)
    _start(machine, syslog, hosts)
    _run_actions(machine, syslog, hosts)
    _restart(machine, syslog, hosts, 'restart', 'service twitcher restart')
    _restart(machine, syslog, hosts, 'try-restart', 'service twitcher try-restart')
    _restart(machine, syslog, hosts, 'upgrade', f'{APT} --reinstall /tmp/twitcher.deb')
    _check_environment(machine, syslog, hosts)
    _die(machine)
    _stop(machine)
    _remove(machine, syslog)
    _purge(machine, before)


def set_hosts(machine: Machine, hosts: str) -> None:
    """Configure it."""
    machine.run(CONFIGURE.replace('localhost:2181', hosts))


def _daemon(machine: Machine) -> List[int]:
    return [pid for pid in machine.processes('twitcher') if is_alive(pid)]


def _install(machine: Machine) -> None:
    machine.run(f'{APT} /tmp/twitcher.deb')
    machine.check('nothing was started', not _daemon(machine))
    status = machine.path('/etc/twitcher').stat()
    machine.check('/etc/twitcher is root:root 0755', (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o755))
    machine.check('it has a README and nothing else', os.listdir(machine.path('/etc/twitcher')) == ['README'])
    machine.run('twitcher --version && twitcherctl --help')
    machine.run('service twitcher status', 3)
    machine.run('service twitcher start', 6)
    machine.run('service twitcher stop')
    machine.check('nothing was started', not _daemon(machine))


def _start(machine: Machine, syslog: Syslog, hosts: str) -> None:
    set_hosts(machine, 'no port:x')
    machine.run('service twitcher start', 6)
    set_hosts(machine, hosts)
    machine.run('echo \'EXTRA="from the defaults"\' >> /etc/default/twitcher')
    machine.run('setpriv --reuid=nobody --clear-groups service twitcher start', 4)
    machine.run(START)
    syslog.wait('ZooKeeper: connected')
    machine.run('service twitcher status')
    pid = machine.path('/run/twitcher.pid').read_text()
    machine.run('service twitcher start')
    machine.check('it is the same daemon', machine.path('/run/twitcher.pid').read_text() == pid)


def _run_actions(machine: Machine, syslog: Syslog, hosts: str) -> None:
    machine.path('/etc/twitcher/test.twc').write_text(CONFIG)
    syslog.wait(r'test\.twc: loaded, 2 watches')
    machine.run(f'twitcherctl poke --zkservers {hosts} /deb/short hello')
    pid = machine.path('/run/twitcher.pid').read_text().strip()
    syslog.wait(rf'^<{DAEMON_INFO}>twitcher\[{pid}\]: short\[\d+\]: said hello from the defaults nothing$')
    seen = len(syslog.records)
    machine.run('service twitcher reload')
    syslog.wait('SIGHUP', seen)
    seen = len(syslog.records)
    machine.run('service twitcher force-reload')
    syslog.wait('SIGHUP', seen)


def _restart(machine: Machine, syslog: Syslog, hosts: str, name: str, command: str) -> None:
    """The command puts a new daemon in the old one's place, while an action runs, which does not notice."""
    seen = len(syslog.records)
    machine.run(f'twitcherctl poke --zkservers {hosts} /deb/long {name}')
    action = int(syslog.wait(r': long\[(?P<pid>\d+)\]: begun', seen)['pid'])
    old = [int(machine.path('/run/twitcher.pid').read_text())]
    machine.run(command)
    # For a moment, what it forks has its name.
    machine.wait('there is one daemon, a new one', lambda: len(_daemon(machine)) == 1 and _daemon(machine) != old)
    new = _daemon(machine)
    machine.check('the action is running', is_alive(action))
    syslog.wait(rf'^<{DAEMON_INFO}>twitcher\[{new[0]}\]: .*pid {action} of an earlier daemon is still running', seen)
    machine.path(f'/tmp/{name}').touch()
    syslog.wait(rf'^<{DAEMON_INFO}>twitcher\[{old[0]}\]: long\[{action}\]: finished', seen)
    machine.run('service twitcher status')


def _check_environment(machine: Machine, syslog: Syslog, hosts: str) -> None:
    """A daemon that apt has restarted has the system's environment, and not that of apt."""
    seen = len(syslog.records)
    machine.run(f'twitcherctl poke --zkservers {hosts} /deb/short again')
    syslog.wait(r'short\[\d+\]: said again from the defaults nothing$', seen)


def _die(machine: Machine) -> None:
    pid = int(machine.path('/run/twitcher.pid').read_text())
    os.kill(pid, signal.SIGKILL)
    # To the script, one that nobody has reaped yet is running.
    machine.wait('the daemon was killed', lambda: pid not in machine.processes('twitcher'))
    machine.run('service twitcher status', 1)
    machine.run('service twitcher reload', 7)
    machine.run('service twitcher start')
    machine.run('service twitcher status')


def _stop(machine: Machine) -> None:
    machine.run('service twitcher stop')
    machine.check('it has stopped', not _daemon(machine))
    machine.run('service twitcher status', 3)
    machine.run('service twitcher stop')
    machine.run('service twitcher reload', 7)
    for command in ('try-restart', 'condrestart'):
        machine.run(f'service twitcher {command}')
        machine.check('it was left as it was', not _daemon(machine))
    machine.run('service twitcher frobnicate', 2)


def _remove(machine: Machine, syslog: Syslog) -> None:
    seen = len(syslog.records)
    machine.run('service twitcher start')
    syslog.wait('ZooKeeper: connected', seen)
    machine.run('apt-get remove -q -y twitcher')
    machine.check('it has stopped', not _daemon(machine))
    machine.wait('the process that logs output has ended', lambda: not machine.processes('twitcher-output'))
    machine.check('the configuration is still there', machine.path('/etc/twitcher/test.twc').exists()
                  and machine.path('/etc/default/twitcher').exists())


def _purge(machine: Machine, before: Set[str]) -> None:
    machine.path('/etc/twitcher/test.twc').unlink()
    machine.run('apt-get purge -q -y twitcher')
    after = machine.files()
    machine.check(f'nothing is left behind: {sorted(after - before)}', not after - before)
    machine.check(f'nothing is missing: {sorted(before - after)}', not before - after)
