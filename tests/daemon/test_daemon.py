"""The daemon as a process: detaching, its pidfile, its signals, its end, and the bound on PARALLEL runs."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive, signals_in
from tests.support.programs import call
from tests.support.waiting import PATIENCE, Trace, wait_for

QUIET = ['--logfile', '/dev/null']


def status(pid: int) -> Dict[str, str]:
    """/proc/PID/status."""
    return dict(line.split(':\t', 1) for line in Path(f'/proc/{pid}/status').read_text().splitlines() if ':\t' in line)


def stop(pid: int) -> None:
    """Stop a daemon that is not our child."""
    os.kill(pid, signal.SIGTERM)
    wait_for('the end of the daemon', lambda: not is_alive(pid))


# Detaching


def test_a_detached_daemon_has_a_session_of_its_own_and_no_tie_to_its_caller(twitcher: Twitcher) -> None:
    pid = twitcher.detach()
    twitcher.wait_log('ZooKeeper: connected')
    assert os.getsid(pid) not in (pid, os.getsid(0), twitcher.pid) and status(pid)['PPid'] != str(twitcher.pid)
    assert {os.readlink(f'/proc/{pid}/fd/{number}') for number in range(3)} == {'/dev/null'}
    assert os.readlink(f'/proc/{pid}/cwd') == '/'
    assert status(pid)['Umask'] == '0022'
    assert twitcher.stdio() == ''
    stop(pid)
    assert not twitcher.pidfile.exists()


def test_relative_paths_are_those_of_the_caller(twitcher: Twitcher, tmp_path: Path) -> None:
    twitcher.config('x.twc', "RegisterWatch('/x', Exec('true'))")
    wrapper = ['env', '--chdir', str(tmp_path)]
    twitcher.detach('--pidfile', 'pid', '--config_path', 'etc', wrapper=wrapper, log_to=['--logfile', 'log'])
    twitcher.wait_log(f'{tmp_path}/etc/x.twc: loaded')


@pytest.mark.parametrize('is_function', [False, True])
def test_actions_of_a_detached_daemon_find_a_clean_process(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                          is_function: bool) -> None:
    look = f'(grep -E ^Sig[BI] /proc/self/status; ulimit -c; umask; pwd; echo end) >> {trace}'
    action = f"lambda: __import__('os').execv('/bin/sh', ['sh', '-c', {look!r}])" if is_function else f'Exec({look!r})'
    twitcher.config('look.twc', f"RegisterWatch('/look', {action})")
    ensemble.put('/look', '')
    # As nohup(1) and a shell's & leave it, with a core limit that it must keep and a umask that it must not.
    limit = '7' if resource.getrlimit(resource.RLIMIT_CORE)[1] else '0'  # sudo(8) may have forbidden cores for good
    script = f'trap "" HUP INT QUIT TSTP TTOU; ulimit -S -c {limit} && umask 077 && exec "$@"'
    twitcher.detach(wrapper=['sh', '-c', script, 'sh'])
    lines = trace.wait_for_line('end')
    core, umask, directory = lines[-4:-1]
    assert (core, int(umask, 8), directory) == (limit, 0o022, '/')
    assert [signals_in(line.split()[1]) for line in lines[:2]] == [[], []]


def test_closed_standard_streams_hurt_neither_the_daemon_nor_its_actions(twitcher: Twitcher, ensemble: Ensemble,
                                                                        trace: Trace) -> None:
    twitcher.config('c.twc', f"RegisterWatch('/c', Exec('cat >> {trace}; echo said'), description='command')\n"
                             "RegisterWatch('/c', lambda: print('said'), description='function')")
    ensemble.put('/c', 'contents\n')
    twitcher.start(wrapper=['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh'])
    for name in ('command', 'function'):
        twitcher.wait_log(rf': {name}\[\d+\]: said')
        twitcher.wait_log(rf': {name}: pid \d+ exited 0')
    assert trace.lines() == ['contents']
    assert twitcher.stop() == 0


# The pidfile


def test_the_pidfile_holds_the_pid_by_the_time_the_parent_exits(twitcher: Twitcher) -> None:
    # An init script reads it then.
    twitcher.start('--daemonize', '--pidfile', str(twitcher.pidfile), wait=False)
    assert twitcher.process and twitcher.process.wait() == 0  # without a limit: that would look every now and then only
    text = twitcher.pidfile.read_text()
    twitcher.detached = wait_for('the pidfile', lambda: int(twitcher.pidfile.read_text() or 0))
    assert text == f'{twitcher.detached}\n'


@pytest.mark.parametrize('contents', ['', '1\n', '999999999\n', 'no pid\n', '\n' * 1000])
def test_what_a_dead_process_left_in_the_pidfile_does_not_block(twitcher: Twitcher, contents: str) -> None:
    twitcher.pidfile.write_text(contents)
    twitcher.start('--pidfile', str(twitcher.pidfile))
    assert twitcher.pidfile.read_text() == f'{twitcher.pid}\n'
    assert twitcher.stop() == 0
    assert not twitcher.pidfile.exists()


def test_the_pidfile_of_a_killed_daemon_does_not_block_even_with_its_runs_alive(twitcher: Twitcher, ensemble: Ensemble,
                                                                               trace: Trace) -> None:
    twitcher.config('s.twc', f"RegisterWatch('/s', Exec('echo begin >> {trace}; sleep 60'), description='command')\n"
                             f"RegisterWatch('/s', lambda: __import__('time').sleep(60), description='function')")
    ensemble.put('/s', '')
    twitcher.detach()
    twitcher.wait_log('command: pid .* started')
    twitcher.wait_log('function: pid .* started')
    trace.wait(1)
    os.kill(twitcher.detached, signal.SIGKILL)
    wait_for('the end of the daemon', lambda: not is_alive(twitcher.detached))
    assert twitcher.pidfile.read_text() == f'{twitcher.detached}\n'
    before, seen = twitcher.detached, len(twitcher.log())
    wait_for('another pid', lambda: twitcher.detach() != before)
    twitcher.wait_log('ZooKeeper: connected', after=seen)


@pytest.mark.parametrize('options', [[], ['--daemonize']])
def test_a_second_daemon_is_refused_and_the_first_undisturbed(twitcher: Twitcher, ensemble: Ensemble,
                                                             options: List[str]) -> None:
    twitcher.start('--pidfile', str(twitcher.pidfile))
    before = twitcher.pidfile.stat().st_mtime_ns
    result = call('twitcher', '--pidfile', twitcher.pidfile, '--config_path', twitcher.configs, *QUIET, *options)
    assert (result.returncode, result.stdout) == (1, b'')
    error = f'twitcher: pidfile {twitcher.pidfile}: a twitcher is running already, with pid {twitcher.pid}\n'
    assert result.stderr.decode() == error
    assert (twitcher.pidfile.read_text(), twitcher.pidfile.stat().st_mtime_ns) == (f'{twitcher.pid}\n', before)
    twitcher.fence(ensemble)
    assert twitcher.stop() == 0


def test_a_pidfile_that_was_replaced_is_left_to_whoever_did_it(twitcher: Twitcher, tmp_path: Path) -> None:
    (tmp_path / 'second').mkdir()
    second = Twitcher(tmp_path / 'second', twitcher.hosts)
    twitcher.start('--pidfile', str(twitcher.pidfile))
    twitcher.pidfile.unlink()
    try:
        second.start('--pidfile', str(twitcher.pidfile))
        assert twitcher.stop() == 0
        assert twitcher.pidfile.read_text() == f'{second.pid}\n'
        assert second.stop() == 0
        assert not twitcher.pidfile.exists()
    finally:
        second.close()


def test_a_pidfile_that_was_removed_does_not_spoil_the_stop(twitcher: Twitcher) -> None:
    twitcher.start('--pidfile', str(twitcher.pidfile))
    twitcher.pidfile.unlink()
    assert twitcher.stop() == 0
    assert twitcher.stdio() == ''


# Its signals, and its end


@pytest.fixture(params=['reachable', 'refused', 'black hole'])
def hosts(request: pytest.FixtureRequest, ensemble: Ensemble) -> Iterator[str]:
    """Where ZooKeeper is, or is not."""
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        if request.param == 'black hole':
            listener.listen()  # and never answers
        port = listener.getsockname()[1]
        yield ensemble.hosts if request.param == 'reachable' else f'127.0.0.1:{port}'


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_stop_takes_less_than_a_second_whether_zookeeper_answers_or_not(twitcher: Twitcher, hosts: str,
                                                                         signum: signal.Signals) -> None:
    twitcher.hosts = hosts
    twitcher.start('--pidfile', str(twitcher.pidfile), '-d', wait=False)
    assert twitcher.process
    twitcher.wait_log('ZooKeeper: connected|trying again until it answers|Connecting to')
    before = time.monotonic()
    twitcher.process.send_signal(signum)
    assert twitcher.process.wait(PATIENCE) == 0
    assert time.monotonic() - before < 1
    assert not twitcher.pidfile.exists()
    assert twitcher.stdio() == ''
    twitcher.wait_log(f'{signum.name}: stopping')


def test_a_second_signal_does_not_spoil_the_stop(twitcher: Twitcher) -> None:
    twitcher.start('--pidfile', str(twitcher.pidfile))
    assert twitcher.process
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        twitcher.process.send_signal(signum)
    assert twitcher.process.wait(PATIENCE) == 0
    assert not twitcher.pidfile.exists() and twitcher.stdio() == ''


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize('is_function', [False, True])
def test_the_daemons_end_leaves_actions_running_and_what_they_print_in_the_log(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path, signum: signal.Signals,
        is_function: bool) -> None:
    gate = tmp_path / 'gate'
    script = (f'echo begin >> {trace}; until test -e {gate}; do sleep .05; done; echo last words; seq 20000; echo end; '
              f'echo $? >> {trace}')
    action = f"lambda: __import__('os').execv('/bin/sh', ['sh', '-c', {script!r}])" if is_function else f'Exec({script!r})'
    twitcher.config('long.twc', f"RegisterWatch('/long', {action})")
    ensemble.put('/long', '')
    twitcher.start()
    trace.wait(1)
    [pid] = twitcher.wait_started('long.twc')
    assert twitcher.process
    twitcher.process.send_signal(signum)
    twitcher.process.wait(PATIENCE)
    assert is_alive(pid)
    gate.touch()
    assert trace.wait(2) == ['begin', '0']
    twitcher.wait_log(rf'long.twc\[{pid}\]: last words$')
    twitcher.wait_log(rf'long.twc\[{pid}\]: end$')
    assert len(twitcher.log_lines(rf'long.twc\[{pid}\]: \d+$')) == 20000


def test_a_thread_that_a_config_has_started_does_not_keep_the_daemon_from_stopping(twitcher: Twitcher) -> None:
    twitcher.config('t.twc', """
        import threading
        threading.Thread(target=threading.Event().wait).start()
        RegisterWatch('/t', Exec('true'))
    """)
    twitcher.start()
    twitcher.wait_log('t.twc: loaded')
    before = time.monotonic()
    assert twitcher.stop() == 0
    assert time.monotonic() - before < 1


def test_sighup_rereads_the_configs_and_runs_nothing_anew(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    other = twitcher.directory / 'imported'
    other.write_text('/one')
    twitcher.config('a.twc', f"RegisterWatch(open('{other}').read(), Exec('echo $TWITCHER_ZNODE >> {trace}'))")
    twitcher.config('b.twc', f"RegisterWatch('/b', Exec('echo $TWITCHER_ZNODE >> {trace}'))")
    for znode in ('/one', '/two', '/b'):
        ensemble.put(znode, '')
    twitcher.start()
    trace.wait(2)
    other.write_text('/two')
    os.kill(twitcher.pid, signal.SIGHUP)
    trace.wait_for_line('/two')
    twitcher.fence(ensemble)
    assert sorted(trace.lines()) == ['/b', '/one', '/two']


# The bound on PARALLEL runs


def test_parallel_runs_past_the_bound_wait_in_order_and_none_is_dropped(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                       tmp_path: Path) -> None:
    seen = Trace(tmp_path / 'seen')
    gate = tmp_path / 'gate'
    script = f'x=`cat`; echo begin $x >> {trace}; until test -e {gate}$x; do sleep .05; done; echo end $x >> {trace}'
    twitcher.config('p.twc', f"RegisterWatch('/p', Exec({script!r}), run_mode=PARALLEL)\n"
                             f"RegisterWatch('/p', Exec('echo `cat` >> {seen}'))")
    twitcher.start('--max_running', '3')
    for number in range(10):  # each is seen, before the next one is made
        ensemble.put('/p', number)
        seen.wait(number + 1)
    assert sorted(trace.wait(3)) == ['begin 0', 'begin 1', 'begin 2']
    twitcher.wait_log(r'WARNING: 3 PARALLEL runs are in progress \(--max_running\): further ones wait; watches take turns')
    assert len(twitcher.wait_started('p.twc#1', 3)) == 3
    for number in range(10):
        Path(f'{gate}{number}').touch()
        trace.wait_for_line(f'end {number}')
        if number < 7:
            trace.wait_for_line(f'begin {number + 3}')
            assert len(twitcher.wait_started('p.twc#1', number + 4)) == number + 4
    begun = [line for line in trace.lines() if line.startswith('begin')]
    assert sorted(begun[:3]) + begun[3:] == [f'begin {number}' for number in range(10)]
    twitcher.wait_log('no PARALLEL run waits any more')
    assert len(twitcher.log_lines('further ones wait')) == 1


def test_the_bound_is_for_all_watches_together_and_for_parallel_ones_only(twitcher: Twitcher, ensemble: Ensemble,
                                                                         trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / 'gate'
    script = f'echo begin $TWITCHER_ZNODE >> {trace}; until test -e {gate}; do sleep .05; done'
    for name in 'abc':
        twitcher.config(f'{name}.twc', f"RegisterWatch('/{name}', Exec({script!r}), run_mode=PARALLEL)")
    twitcher.config('q.twc', f"RegisterWatch('/q', Exec({script!r}))")
    twitcher.start('--max-running=2')
    for name in 'abc':
        twitcher.wait_log(f'{name}.twc: loaded')
    for name in 'abcq':
        ensemble.put(f'/{name}', '')
        if name != 'c':
            trace.wait_for_line(f'begin /{name}')
    twitcher.wait_log('2 PARALLEL runs are in progress')
    assert trace.lines() == ['begin /a', 'begin /b', 'begin /q']
    gate.touch()
    assert trace.wait(4)[3] == 'begin /c'


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_stop_does_not_wait_for_a_config_that_hangs(twitcher: Twitcher, trace: Trace, signum: signal.Signals) -> None:
    for name in 'ab':
        twitcher.config(f'{name}.twc', f"""
            open('{trace}', 'a').write('hangs\\n')
            while True:
                try:
                    while True: pass
                except BaseException:
                    pass
            """)
    twitcher.start(wait=False)
    trace.wait(1)
    assert twitcher.process
    twitcher.process.send_signal(signum)
    assert twitcher.process.wait(8) == 0  # the limit for each file is 10 s
    assert trace.lines() == ['hangs']


def test_sighup_during_the_start_does_no_harm(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    twitcher.start('--pidfile', str(tmp_path / 'early'), wait=False)
    wait_for('the pid', lambda: (tmp_path / 'early').exists() and (tmp_path / 'early').read_text())
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('ZooKeeper: connected')
    assert twitcher.stop() == 0
