"""A stop is a stop, whatever signals come, and no other signal ends the daemon."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.waiting import PATIENCE, Trace


@pytest.mark.parametrize('second', ['SIGTERM', 'SIGINT', 'SIGHUP'])
def test_a_second_signal_during_the_stop_neither_kills_it_nor_leaves_the_pidfile(
        twitcher: Twitcher, ensemble: Ensemble, second: str) -> None:
    for _ in range(5):
        twitcher.start('--pidfile', str(twitcher.pidfile))
        assert twitcher.process
        twitcher.process.send_signal(signal.SIGTERM)
        while twitcher.process.poll() is None:
            twitcher.process.send_signal(signal.Signals[second])
            time.sleep(0.001)  # without it the handlers would take all the time that the stop needs
        assert twitcher.process.returncode == 0
        assert not twitcher.pidfile.exists()
    assert len(twitcher.log_lines('stopping; runs')) == 5
    assert not twitcher.log_lines('Traceback|ERROR')


@pytest.mark.parametrize('name', ['SIGUSR1', 'SIGUSR2'])
def test_a_signal_without_meaning_is_ignored(twitcher: Twitcher, ensemble: Ensemble, name: str) -> None:
    twitcher.start()
    os.kill(twitcher.pid, signal.Signals[name])
    twitcher.wait_log(f'{name}: ignored')
    twitcher.fence(ensemble)
    assert twitcher.stop() == 0


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
    for attempt in range(1, 4):  # any of them may be delayed on a loaded machine
        twitcher.start('--pidfile', str(twitcher.pidfile), '-d', wait=False)
        assert twitcher.process
        twitcher.wait_log('ZooKeeper: connected|trying again until it answers|Connecting to', count=attempt)
        before = time.monotonic()
        twitcher.process.send_signal(signum)
        assert twitcher.process.wait(PATIENCE) == 0
        if time.monotonic() - before < 1:
            break
    else:
        pytest.fail('no stop took less than a second')
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
    script = (f'echo begin >> {trace}; {until(gate)}; echo last words; seq 20000; echo end; '
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
    assert twitcher.stop() == 0


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
