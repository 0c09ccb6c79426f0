"""Where the log goes: syslog, a file, stdout, stderr; and how much of it there is."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import subprocess
from functools import partial
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import command
from tests.support.waiting import PATIENCE, Trace, wait_for


class Syslog:
    """A syslog server, at a socket of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: List[str] = []
        self.open()

    def open(self) -> None:
        """Listen."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(PATIENCE)

    def close(self) -> None:
        """Be gone, socket and all."""
        self.socket.close()
        self.path.unlink()

    def wait(self, pattern: str) -> re.Match[str]:
        """The first record in which the regular expression is found, among those so far or to come."""
        for number in itertools.count():
            if number == len(self.records):
                try:
                    self.records.append(self.socket.recv(1 << 20).decode())
                except socket.timeout:
                    break
            match = re.search(pattern, self.records[number])
            if match:
                return match
        raise AssertionError(f'no record with {pattern!r} among {self.records}')


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[Syslog]:
    """Listens at `dev/log` in the test's directory."""
    (tmp_path / 'dev').mkdir()
    server = Syslog(tmp_path / 'dev' / 'log')
    yield server
    server.socket.close()


def test_syslog_gets_one_datagram_a_record_with_facility_ident_and_pid(twitcher: Twitcher, ensemble: Ensemble,
                                                                      syslog: Syslog) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('printf \"one\\\\ntwo\"; exit 3'))")
    twitcher.config('b.twc', "RegisterWatch('/b', Exec('true'), no_such=1)")
    twitcher.config('c.twc', "raise ValueError('y' * 300000)")
    ensemble.put('/a', '')
    twitcher.start(log_to=['--syslog_socket', str(syslog.path)])
    for priority, text in [
        (30, 'started; configs in'), (27, r'/b\.twc:1: .*no_such'), (27, r'/c\.twc:1: ValueError: yyy'),
        (30, r'a\.twc: pid \d+ started'), (28, r'a\.twc: pid \d+ exited 3'), (30, r'a\.twc\[\d+\]: one$'),
        (30, r'a\.twc\[\d+\]: two$'),
    ]:
        assert syslog.wait(text).string.startswith(f'<{priority}>twitcher[{twitcher.pid}]: ')
    assert not [record for record in syslog.records if '\n' in record or '\0' in record]


def test_logging_goes_on_when_syslog_is_back(twitcher: Twitcher, ensemble: Ensemble, syslog: Syslog, trace: Trace) -> None:
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec('x=`cat`; echo said $x; echo $x >> {trace}'))")
    ensemble.put('/a', '0')
    twitcher.start(log_to=['--syslog_socket', str(syslog.path)])
    syslog.wait('said 0')
    syslog.close()
    ensemble.put('/a', '1')
    trace.wait_for_line('1')
    syslog.open()
    ensemble.put('/a', '2')
    syslog.wait('said 2')
    syslog.wait('said 1')
    for version in (1, 2):
        syslog.wait(rf'a\.twc: pid \d+ started \(changed, version {version}\)')


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_syslog_server_that_reads_nothing_does_not_hold_up_the_daemon(twitcher: Twitcher, ensemble: Ensemble, syslog: Syslog,
                                                                       trace: Trace, signum: signal.Signals) -> None:
    most = int(Path('/proc/sys/net/unix/max_dgram_qlen').read_text())
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec('cat >> {trace}'))")
    syslog.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    twitcher.start(log_to=['--syslog_socket', str(syslog.path)])
    assert twitcher.process
    syslog.wait('ZooKeeper: connected')
    for number in range(min(most, 600)):
        ensemble.put('/a', f'{number}\n')
        trace.wait(number + 1)
    twitcher.process.send_signal(signum)
    assert twitcher.process.wait(5) == 0


def test_without_a_syslog_server_one_line_says_so_and_the_log_is_on_stderr(twitcher: Twitcher, tmp_path: Path) -> None:
    twitcher.start(log_to=['--syslog_socket', str(tmp_path / 'none')])
    wait_for('the log', lambda: 'ZooKeeper: connected' in twitcher.stdio())
    first, *rest = twitcher.stdio().splitlines()
    assert first == f'twitcher: {tmp_path}/none does not exist: logging to stderr'
    assert all(f' twitcher[{twitcher.pid}] INFO: ' in line for line in rest)


def test_a_detached_daemon_without_a_syslog_server_says_so_and_logs_when_there_is_one(
        twitcher: Twitcher, ensemble: Ensemble, syslog: Syslog, trace: Trace) -> None:
    syslog.close()
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec('cat >> {trace}'))")
    pid = twitcher.detach(log_to=['--syslog_socket', str(syslog.path)])
    assert twitcher.stdio().splitlines() == [f'twitcher: {syslog.path} does not exist: nothing is logged until it does']
    ensemble.put('/a', 'one\n')
    trace.wait(1)
    syslog.open()
    os.kill(pid, signal.SIGHUP)
    syslog.wait('SIGHUP: rereading')


def test_log_to_stdout_has_everything_on_stdout(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('echo said; echo also >&2'))")
    ensemble.put('/a', '')
    twitcher.start(log_to=['--log_to_stdout'], wrapper=['sh', '-c', 'exec "$@" 2>/dev/null', 'sh'])
    for pattern in (r'a.twc: loaded', r'a.twc\[\d+\]: said\n', r'a.twc\[\d+\]: also\n'):
        wait_for(pattern, partial(lambda pattern: re.search(pattern, twitcher.stdio()), pattern))


def test_the_log_file_is_opened_again_after_a_rotation(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('echo said `cat`'))")
    ensemble.put('/a', 0)
    twitcher.start()
    twitcher.wait_log('said 0')
    old = twitcher.log_path.rename(twitcher.log_path.with_name('log.1'))
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('SIGHUP: rereading')
    size = old.stat().st_size
    ensemble.put('/a', 1)
    twitcher.wait_log(r'a.twc: pid \d+ started')
    twitcher.wait_log('said 1')
    assert old.stat().st_size == size
    held = [os.readlink(path) for path in Path(f'/proc/{twitcher.pid}/fd').iterdir() if path.is_symlink()]
    assert str(old) not in held and str(twitcher.log_path) in held
    assert len(twitcher.started('a.twc')) == 1  # the reading ran nothing


@pytest.mark.parametrize(['options', 'ours', 'libraries'], [
    ([], False, False), (['-v'], True, False), (['--verbose'], True, False), (['-d'], True, True), (['--debug'], True, True),
    (['-dv'], True, True),
], ids=str)
def test_verbose_logs_our_details_and_debug_those_of_libraries_too(twitcher: Twitcher, ensemble: Ensemble, options: List[str],
                                                                  ours: bool, libraries: bool) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('sleep 60'))")
    ensemble.put('/a', '0')
    twitcher.start(*options)
    twitcher.wait_log('a.twc: pid .* started')
    ensemble.put('/a', '1')
    twitcher.fence(ensemble)
    assert bool(twitcher.log_lines(r'DEBUG: a\.twc: changed \(version 1\) waits')) == ours
    assert bool(twitcher.log_lines('DEBUG: Sending request')) == libraries
    assert bool(twitcher.log_lines(' DEBUG: ')) == ours


def test_on_a_terminal_it_says_where_it_logs(twitcher: Twitcher) -> None:
    ours, theirs = os.openpty()
    socket = twitcher.directory / 'syslog'
    socket.touch()
    options = ['--zkservers', '127.0.0.1:1', '--config_path', twitcher.configs, '--state_dir', twitcher.directory / 'state',
               '--syslog_socket', socket]
    process = subprocess.Popen(command('twitcher', *options), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=theirs)
    try:
        line = ''
        while not line.endswith('\n'):  # a terminal may hand it over in pieces
            line += os.read(ours, 1000).decode()
        assert line == (f'twitcher: running on the files in {twitcher.configs} and logging to syslog; --log_to_stdout shows '
                        'the log here\r\n')
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
        os.close(ours)
        os.close(theirs)
