"""What is done with the package on a machine with systemd, and what has to come of it."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import List

from tests.packaging.deb.machine import Machine
from tests.packaging.deb.story import APT, CONFIG, set_hosts
from tests.support.waiting import wait_for

HANGS = '/etc/twitcher/hangs.twc'
HANGS_ONCE = """import itertools, os
if not os.path.exists('/tmp/hung'):
    open('/tmp/hung', 'w')
    sum(itertools.repeat(1))"""
DROP_IN = '/etc/systemd/system/twitcher.service.d/test.conf'


def be_managed(machine: Machine, package: Path, hosts: str, cgroup: str) -> None:
    """The life of the package on a machine that is booted, from its installation to its purge."""
    machine.run(f'{APT} systemd-sysv')
    shutil.copy(package, machine.path('/root/twitcher.deb'))
    process = machine.boot(cgroup)
    try:
        _install(machine)
        _start(machine, hosts)
        _reload(machine)
        _restart(machine, hosts, 'restart', 'systemctl restart twitcher')
        _restart(machine, hosts, 'upgrade', f'{APT} --reinstall /root/twitcher.deb')
        _die(machine)
        _stop(machine)
        _purge(machine)
    finally:
        process.kill()
        process.wait()


def _show(machine: Machine, name: str) -> str:
    return machine.ask(f'systemctl show --value --property={name} twitcher')


def _wait_logged(machine: Machine, pattern: str, since: int = 0) -> re.Match[str]:
    """A line of the journal that has come with facility daemon; `since` is a number of such lines."""
    match = wait_for(f'{pattern!r} in the journal',
                     lambda: re.search(pattern, '\n'.join(_logged(machine)[since:]), re.MULTILINE))
    machine.check(f'logged: {match[0]}', True)
    return match


def _logged(machine: Machine) -> List[str]:
    # Not by unit: journald cannot tell that of a process that ends right after its last line.
    return machine.ask('journalctl --quiet --output=cat SYSLOG_IDENTIFIER=twitcher SYSLOG_FACILITY=3').splitlines()


def _install(machine: Machine) -> None:
    machine.run(f'{APT} /root/twitcher.deb')
    machine.run('systemctl is-enabled twitcher')
    machine.run('systemctl is-failed twitcher', 1)
    machine.run('systemctl start twitcher')
    machine.run('service twitcher status', 3)
    machine.check('nothing was started', not machine.processes('twitcher'))
    set_hosts(machine, 'no port:x')
    machine.run('systemctl start twitcher', 1)
    machine.check('it is not tried again', _show(machine, 'ActiveState') == 'failed')
    machine.run('systemctl reset-failed twitcher')


def _start(machine: Machine, hosts: str) -> None:
    set_hosts(machine, hosts)
    machine.run('echo \'EXTRA="from the defaults"\' >> /etc/default/twitcher')
    machine.path('/etc/twitcher/test.twc').write_text(CONFIG)
    machine.run('systemctl start twitcher')
    machine.run('systemctl status --no-pager twitcher')
    machine.wait('the status tells of the connection',
                 lambda: _show(machine, 'StatusText') == f'connected to {hosts}; watches in force: 2')
    machine.run(f'twitcherctl poke --zkservers {hosts} /deb/short hello')
    _wait_logged(machine, 'said hello from the defaults nothing$')


def _reload(machine: Machine) -> None:
    for command in ('systemctl reload', 'service twitcher reload', 'service twitcher force-reload'):
        seen = len(_logged(machine))
        machine.run(command if 'service' in command else f'{command} twitcher')
        _wait_logged(machine, 'SIGHUP', seen)
        machine.wait('it is active again', lambda: _show(machine, 'ActiveState') == 'active')


def _restart(machine: Machine, hosts: str, name: str, command: str) -> None:
    """The command puts a new daemon in the old one's place, while an action runs, which does not notice."""
    seen = len(_logged(machine))
    machine.run(f'twitcherctl poke --zkservers {hosts} /deb/long {name}')
    pid = _wait_logged(machine, r'long: pid (\d+) started', seen)[1]
    _wait_logged(machine, rf'long\[{pid}\]: begun', seen)
    old = _show(machine, 'MainPID')
    machine.run(command)
    machine.check('there is a new daemon', _show(machine, 'MainPID') not in (old, '0'))
    machine.check('the action is running', machine.ask(f'kill -0 {pid} && echo yes') == 'yes')
    _wait_logged(machine, f'pid {pid} of an earlier daemon is still running', seen)
    machine.run(f'touch /tmp/{name}')
    _wait_logged(machine, rf'long\[{pid}\]: finished', seen)


def _die(machine: Machine) -> None:
    """Killed, or hanging for ever in a file that cannot be interrupted: it is started anew."""
    machine.path(DROP_IN).parent.mkdir()
    machine.path(DROP_IN).write_text('[Service]\nWatchdogSec=4\nRestartSec=1\n')
    machine.run('systemctl daemon-reload && systemctl restart twitcher')
    for fault in ('kill -KILL $(systemctl show --value --property=MainPID twitcher)', f'echo "{HANGS_ONCE}" > {HANGS}'):
        old = _show(machine, 'MainPID')
        machine.run(fault)
        try:
            machine.wait('it has been started anew', partial(_is_anew, machine, old))
        except AssertionError as error:
            raise AssertionError(f'{error}: {machine.ask("systemctl status --no-pager --lines=30 twitcher")}') from None
    machine.check('the unit says so', _show(machine, 'NRestarts') == '2')
    machine.path(HANGS).unlink()
    machine.path(DROP_IN).unlink()
    machine.path(DROP_IN).parent.rmdir()
    machine.run('systemctl daemon-reload')


def _is_anew(machine: Machine, old: str) -> bool:
    return _show(machine, 'MainPID') not in (old, '0') and _show(machine, 'ActiveState') == 'active'


def _stop(machine: Machine) -> None:
    machine.run('service twitcher stop')
    machine.check('it has stopped', not machine.processes('twitcher'))
    machine.run('service twitcher status', 3)
    machine.run('systemctl try-restart twitcher')
    machine.run('service twitcher status', 3)
    machine.run('systemctl start twitcher')


def _purge(machine: Machine) -> None:
    machine.run('rm /etc/twitcher/test.twc; apt-get purge -q -y twitcher')
    machine.check('it has stopped', not machine.processes('twitcher'))
    left = [path for path in machine.files() if 'twitcher' in path]
    machine.check(f'nothing is left behind: {left}', not left)
