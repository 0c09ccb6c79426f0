"""The process that guards the output of actions is the last thing that dies, and neither it nor the daemon loses a line."""

from __future__ import annotations

import array
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.runs.test_output import output_process
from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.programs import TOP
from tests.support.syslog_server import SyslogServer
from tests.support.waiting import Trace, wait_for

NO_RAISE = ['setpriv', '--bounding-set', '-sys_resource', '--inh-caps', '-sys_resource', 'sh', '-c',
            'ulimit -n 70; exec "$@"', 'sh']
"""A limit of 70 descriptors that not even root may raise."""


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[SyslogServer]:
    """Keeps what is not the output of `yes`."""
    server = SyslogServer(tmp_path / 'syslog', ignored=': y$')
    yield server
    server.close()


def test_300_short_runs_beside_one_that_floods_are_all_logged(
        twitcher: Twitcher, ensemble: Ensemble, syslog: SyslogServer) -> None:
    twitcher.config('o.twc', '''
        RegisterWatch('/chatty', Exec('exec yes'), description='chatty')
        for number in range(300):
            RegisterWatch('/o', Exec('echo printed'), description=f'it {number}')
    ''')
    ensemble.put('/chatty', '')
    twitcher.start(log_to=['--syslog_socket', str(syslog.path)])
    syslog.wait('chatty: pid .* started')
    ensemble.put('/o', '')
    try:
        syslog.wait(r'it \d+: pid \d+ exited', 300)
        assert len(set(syslog.wait(r'it \d+\[\d+\]: printed$', 300))) == 300
        assert not syslog.find('ERROR')
    finally:
        [started] = syslog.find('chatty: pid .* started')
        os.killpg(int(started.partition(': pid ')[2].split()[0]), signal.SIGKILL)


def test_a_stop_with_300_runs_in_progress_harms_none_of_them_though_their_pipes_were_not_taken_yet(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'gate')
    twitcher.config('o.twc', f'''
        for number in range(300):
            RegisterWatch('/o', Exec('read line < {tmp_path}/gate; echo printed; echo survived >> {trace}'),
                          description=f'it {{number}}')
    ''')
    twitcher.config('first.twc', "RegisterWatch('/first', Exec('echo first'), description='first')")
    ensemble.put('/first', '')
    twitcher.start()
    twitcher.wait_printed('first', 1)
    reader = output_process(twitcher)
    os.kill(reader, signal.SIGSTOP)
    ensemble.put('/o', '')
    twitcher.wait_log(r'it \d+: pid \d+ started', 300)
    assert twitcher.stop() == 0
    os.kill(reader, signal.SIGCONT)
    with open(tmp_path / 'gate', 'w') as gate:  # which all of them have open now, or are about to open
        gate.write('go\n' * 300)
        gate.flush()
        wait_for('300 survivors', lambda: len(trace.lines()) == 300)
    twitcher.wait_log(r'it \d+\[\d+\]: printed$', 300)
    assert not twitcher.log_lines(r'ERROR')


def test_the_daemon_does_not_run_out_of_descriptors_while_the_process_takes_no_pipes(
        twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('o.twc', "RegisterWatch('/o', Exec('cat'), description='it')")
    ensemble.put('/o', 0)
    twitcher.start(wrapper=['sh', '-c', 'ulimit -n 70; exec "$@"', 'sh'])
    twitcher.wait_printed('it', 1)
    reader = output_process(twitcher)
    os.kill(reader, signal.SIGSTOP)
    try:
        for number in range(1, 100):
            ensemble.put('/o', number)
            twitcher.wait_ended('it', number + 1)
        assert not twitcher.log_lines('no run|cannot be run')
        assert len(twitcher.log_lines('ERROR: the process that logs the output of actions does not accept it')) == 1
    finally:
        os.kill(reader, signal.SIGCONT)
    assert twitcher.wait_printed('it', 100) == [str(number) for number in range(100)]
    twitcher.wait_log('ERROR: the process that logs the output of actions accepts it again')
    assert output_process(twitcher) == reader


def test_more_pipes_than_descriptors_wait_until_there_are_some_again(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('o.twc', f"RegisterWatch('/o', Exec('({until(trace.path, 0.5)}) & echo `cat`'), "
                             "description='it')")
    ensemble.put('/o', 0)
    twitcher.start(wrapper=NO_RAISE)
    twitcher.wait_printed('it', 1)
    reader = output_process(twitcher)
    for number in range(1, 90):
        ensemble.put('/o', number)
        twitcher.wait_ended('it', number + 1)
    assert is_alive(reader)
    trace.path.touch()
    assert twitcher.wait_printed('it', 90) == [str(number) for number in range(90)]
    assert output_process(twitcher) == reader
    twitcher.wait_log('ERROR: output of further runs waits: .* pipes are open')


def test_a_log_whose_directory_is_away_is_opened_when_it_is_back(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    (tmp_path / 'logs').mkdir()
    twitcher.log_path = tmp_path / 'logs' / 'log'
    twitcher.config('o.twc', f"RegisterWatch('/o', Exec('echo printed; echo ran >> {trace}'), description='it')")
    twitcher.start()
    (tmp_path / 'logs').rename(tmp_path / 'away')
    ensemble.put('/o', 0)
    trace.wait(1)
    reader = output_process(twitcher)
    for number in range(1, 20):
        ensemble.put('/o', number)
        trace.wait(number + 1)
    assert is_alive(reader)
    (tmp_path / 'away').rename(tmp_path / 'logs')
    twitcher.wait_printed('it', 20)
    assert output_process(twitcher) == reader
    assert not twitcher.log_lines('has died')


THIEF = """
import os, sys, time
own = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)
number = 0
while True:
    number += 1
    os.write(1, b'x')
    end = time.perf_counter() + number % 50 * 2e-6
    while time.perf_counter() < end:
        pass
    try:
        os.read(own, 1)
    except BlockingIOError:
        continue
    with open(f'/proc/{sys.argv[1]}/syscall') as file:
        call = file.read().split()
    if call[0] == {'x86_64': '0', 'aarch64': '63'}[os.uname().machine]:
        time.sleep(0.2)
        with open(f'/proc/{sys.argv[1]}/syscall') as file:
            if file.read().split() == call:
                time.sleep(1000)
"""
"""Writes a byte and takes it back, until the process with this pid waits for it."""


def test_an_action_that_reads_its_own_pipe_blocks_nobody_else(
        twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    (tmp_path / 'thief').write_text(THIEF)
    twitcher.config('o.twc', f"""
        RegisterWatch('/thief', Exec('exec {sys.executable} {tmp_path}/thief `cat`'), description='thief')
        RegisterWatch('/o', Exec('echo `cat`'), description='it')
    """)
    ensemble.put('/o', 'first')
    twitcher.start()
    twitcher.wait_printed('it', 1)
    ensemble.put('/thief', output_process(twitcher))
    twitcher.wait_started('thief')
    end = time.monotonic() + 15
    number = 1
    while time.monotonic() < end:
        ensemble.put('/o', number)
        number += 1
        twitcher.wait_printed('it', number)
        time.sleep(0.2)


def test_when_the_process_cannot_be_started_one_timer_tries_again_and_nothing_is_lost(
        twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    python = tmp_path / 'python'
    python.symlink_to(sys.executable)
    twitcher.config('o.twc', "RegisterWatch('/o', Exec('cat'), description='it')")
    twitcher.start(wrapper=['sh', '-c', f'shift; exec {python} "$@"', 'sh'],
                   environment={'PYTHONPATH': ':'.join(filter(None, sys.path))})
    python.unlink()
    for number in range(20):
        ensemble.put('/o', number)
        twitcher.wait_ended('it', number + 1)
    failure = 'ERROR: output of actions waits: its process cannot be started: No such file'
    twitcher.wait_log(failure, 3)
    first, _, third = twitcher.log_times(failure)[:3]
    assert third - first > 2.5  # one timer: the second attempt comes after 1 s, the third 2 s later
    python.symlink_to(sys.executable)
    assert twitcher.wait_printed('it', 20) == [str(number) for number in range(20)]
    assert len([line for line in ps_lines() if str(twitcher.pid) in line and 'output' in line.split()[2]]) == 1


def ps_lines() -> List[str]:
    """What ps(1) has to say: pid, parent, name, command line."""
    return subprocess.run(['ps', '-ww', '-eo', 'pid,ppid,comm,args', '--no-headers'], check=True, stdout=subprocess.PIPE,
                          text=True).stdout.splitlines()


def test_ps_shows_the_process_by_its_name(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('o.twc', "RegisterWatch('/o', Exec('echo printed'), description='it')")
    ensemble.put('/o', 0)
    twitcher.start()
    twitcher.wait_printed('it', 1)
    reader = output_process(twitcher)
    [line] = [line for line in ps_lines() if line.split()[0] == str(reader)]
    assert re.search(r'/twitcher_output\.py file .*/log \d+$', line)
    assert 'import' not in line


def test_the_output_of_a_run_is_logged_after_the_line_that_says_that_it_has_started(
        twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('o.twc', """
        for number in range(300):
            RegisterWatch('/o', Exec(['echo', 'printed']), description=f'it {number}')
    """)
    ensemble.put('/o', 0)
    twitcher.start('--debug')
    for round in range(1, 4):
        twitcher.wait_log(r'it \d+: pid \d+ exited', 300 * round)
        twitcher.wait_log(r'it \d+\[\d+\]: printed', 300 * round)
        ensemble.put('/o', round)
    log = twitcher.log()
    started = {match[1]: match.start() for match in re.finditer(r': pid (\d+) started', log)}
    printed = {match[1]: match.start() for match in re.finditer(r'\[(\d+)\]: printed', log)}
    assert [pid for pid in printed if printed[pid] < started[pid]] == []


def test_no_message_ends_the_process(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen([sys.executable, '-I', str(TOP / 'twitcher/runs/twitcher_output.py'), 'file',
                                    str(tmp_path / 'log'), '1'], stdin=theirs.fileno())
    writers = []

    def send(packet: bytes, with_pipe: bool = False) -> None:
        """A packet, and a new pipe with it."""
        fds = []
        if with_pipe:
            reader, writer = os.pipe()
            fds = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [reader]))]
            writers.append(writer)
        ours.sendmsg([packet], fds)
        if with_pipe:
            os.close(reader)

    for packet in (b'\xff', b'{}', b' ', b'Pipe', b'Pipe 1', b'Pid 1', b'Pid 1 2', b'Pid 7 x', b'Pid 7 1 2', b'Start 9',
                   b'Start 9 9', b'None 1', b'Pipe x y', b'Pipe 1 no pipe', b'x' * 100_000):
        send(packet)
    send(b'garbage', with_pipe=True)
    send(b'Pipe 1 it', with_pipe=True)
    send(b'Pipe 1 it', with_pipe=True)
    for packet in (b'Pid 1 42', b'Pid 1 42', b'Start 1', b'Start 1', b'Pid 1 42'):
        send(packet)
    for number, writer in enumerate(writers):
        os.write(writer, b'line %d' % number)
        os.close(writer)
    ours.close()
    assert process.wait(20) == 0
    log = (tmp_path / 'log').read_text()
    for line in (r'\?\[\?\]: line 0', r'it\[42\]: line 1', r'\?\[\?\]: line 2', 'ERROR: from the daemon: no message'):
        assert re.search(line, log), log


def test_a_daemon_that_is_killed_before_it_comes_to_note_a_start_has_told_whose_output_it_is(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    # The event loop does not come to what a thread has started, and said whose output it is.
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site/sitecustomize.py').write_text(f'''
import threading

def hold(frame, event, argument):
    if event == 'call' and frame.f_code.co_name == '_started' and 'runner.py' in frame.f_code.co_filename:
        open('{tmp_path}/held', 'w').close()
        threading.Event().wait(60)

import sys
if 'bin/twitcher' in ' '.join(sys.orig_argv if hasattr(sys, 'orig_argv') else ['bin/twitcher']):
    sys.setprofile(hold)
''')
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec('echo said; echo $$ >> {trace}'))")
    ensemble.put('/a', '')
    twitcher.start(environment={'PYTHONPATH': f'{tmp_path}/site'})
    (pid,) = trace.wait(1)
    wait_for('the end of the run', lambda: not is_alive(int(pid)))
    wait_for('the event loop to be held', (tmp_path / 'held').exists)
    twitcher.kill()
    twitcher.wait_log(rf'a.twc\[{pid}\]: said')
