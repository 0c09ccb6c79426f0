"""notify_signal: an update that arrives during a run signals the run's own process, and does not kill one that is
still starting."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.services import CATCHES, SERVICE, living, reloads, service, services
from tests.support.waiting import Trace, wait_for

WAITS = r'n\.twc: changed .* waits for the run in progress'
"""What a daemon with --verbose logs of an update that it has received during a run."""
STARTS_LATE = f"wait('.go')\n{CATCHES}"
"""The start of a service that does not catch SIGHUP until a file of the trace's name with .go is there."""


def update_while_it_starts(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    """A service that starts late has been started for 1 and signalled for 2 before it could catch that; then it could."""
    ensemble.put('/n', 0)
    twitcher.start('--verbose')
    twitcher.fence(ensemble)
    ensemble.put('/n', 1)
    twitcher.wait_started('n.twc')
    ensemble.put('/n', 2)
    twitcher.wait_log(WAITS)
    twitcher.fence(ensemble)
    assert not twitcher.log_lines('n.twc: SIGHUP to pid')
    Path(f'{trace}.go').touch()
    trace.wait_for_line('reloaded')
    twitcher.fence(ensemble)
    assert living(trace) == services(trace) == twitcher.started('n.twc')
    assert len(services(trace)) == 1


def test_a_service_that_is_still_starting_is_not_killed_but_gets_the_signal_when_it_catches_it(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace, STARTS_LATE)
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec(['{path}']), notify_signal='SIGHUP', run_on_load=False)")
    update_while_it_starts(twitcher, ensemble, trace)
    assert len(twitcher.log_lines('n.twc: SIGHUP to pid')) == reloads(trace) == 1


def test_a_function_that_is_still_starting_is_not_killed_either(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', SERVICE.format(trace=trace, start='').partition('say(f')[0] + f'''
def serve():
    say(f'starts {{os.getpid()}}')
    wait('.go')
    {CATCHES}
    say('ready')
    time.sleep(1000)
RegisterWatch('/n', serve, notify_signal='SIGHUP', run_on_load=False)
''')
    update_while_it_starts(twitcher, ensemble, trace)


def test_the_wait_ends_after_five_seconds(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace, '')
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec(['{path}']), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start('--verbose')
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    assert twitcher.wait_ended('n.twc') == ['was killed by SIGHUP']
    assert 4.9 < twitcher.seconds_between(WAITS, 'n.twc: SIGHUP to pid') < 8


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGKILL'])
def test_a_signal_that_means_an_end_does_not_wait(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, name: str) -> None:
    path = service(trace, 'signal.signal(signal.SIGINT, signal.SIG_DFL)')
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('{path}'), notify_signal='{name}')")
    ensemble.put('/n', 0)
    twitcher.start('--verbose')
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    assert twitcher.wait_ended('n.twc') == [f'was killed by {name}']
    assert twitcher.seconds_between(WAITS, f'n.twc: {name} to pid') < 4


def test_a_process_that_reads_its_signals_from_a_descriptor_need_not_wait_long(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace, """import ctypes
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
descriptor = ctypes.CDLL(None).signalfd(-1, b'\\1' + bytes(127), 0)
say('ready')
while os.read(descriptor, 128): say('reloaded')""")
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec(['{path}']), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start('--verbose')
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    trace.wait_for_line('reloaded')
    assert twitcher.seconds_between(WAITS, 'n.twc: SIGHUP to pid') < 4


def test_many_updates_are_one_signal_and_one_line_in_a_tenth_of_a_second(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace)
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec(['{path}']), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    began = time.monotonic()
    for number in range(200):
        ensemble.put('/n', number)
    twitcher.fence(ensemble)
    wait_for('the last signal', lambda: reloads(trace) >= 1)
    signals = len(twitcher.log_lines('n.twc: SIGHUP to pid'))
    assert 1 <= signals <= 2 + 10 * (time.monotonic() - began)
    assert len(living(trace)) == 1


@pytest.mark.parametrize('name', ["'SIGUSR1'", "'USR1'", str(int(signal.SIGUSR1)), 'signal.SIGUSR1'])
def test_notify_signal_reaches_the_process_itself_when_an_update_arrives(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, name: str) -> None:
    twitcher.config('n.twc', f'''
        import signal
        RegisterWatch('/n', Exec("""
            if [ `cat` != 0 ]; then echo next >> {trace}; exit; fi
            sh -c 'trap "echo child >> {trace}" USR1; {until(f'{trace}.go')}' &
            trap 'echo notified >> {trace}' USR1
            echo ready >> {trace}
            {until(f'{trace}.go')}
            wait; echo end >> {trace}"""), notify_signal={name})
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    twitcher.fence(ensemble)
    assert trace.lines() == ['ready']
    for number in (1, 2):
        ensemble.put('/n', number)
        trace.wait(1 + number)
    Path(f'{trace}.go').touch()
    trace.wait_for_line('next')
    assert trace.lines() == ['ready', 'notified', 'notified', 'end', 'next']
    twitcher.fence(ensemble)
    assert twitcher.wait_ended('n.twc', 2) == ['exited 0', 'exited 0']


def test_notify_signal_reaches_a_python_action(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f'''
        import signal, sys
        def f():
            signal.signal(signal.SIGHUP, lambda *_: sys.exit(5))
            if sys.stdin.read() == '0':
                print('ready', file=open('{trace}', 'w'))
                signal.pause()
        RegisterWatch('/n', f, notify_signal='SIGHUP')
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    assert twitcher.wait_ended('n.twc', 2) == ['exited 5', 'exited 0']


@pytest.mark.parametrize('mode', ['DISCARD', 'PARALLEL'])
def test_notify_signal_is_not_sent_in_other_modes(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, mode: str) -> None:
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('echo ready >> {trace}; exec sleep 1000'), notify_signal='SIGUSR1', "
                             f"run_mode={mode})")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    twitcher.fence(ensemble)
    assert len(twitcher.started('n.twc')) == (1 if mode == 'DISCARD' else 2)
    assert all(is_alive(pid) for pid in twitcher.started('n.twc'))
    assert not twitcher.log_lines('SIGUSR1')


def test_notify_signal_is_not_sent_to_what_a_leader_left_behind(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f'''
        RegisterWatch('/n', Exec("""(trap 'echo notified >> {trace}' USR1; echo ready >> {trace}
                                     while :; do sleep 0.05; done) & true"""), notify_signal='USR1')
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait(1)
    twitcher.wait_ended('n.twc')
    ensemble.put('/n', 1)
    twitcher.wait_ended('n.twc', 2)
    twitcher.fence(ensemble)
    assert trace.wait(2) == ['ready', 'ready']


def test_a_reattached_run_is_notified_as_its_own(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f"""
        RegisterWatch('/n', Exec(['python3', '-c', '''
        import signal
        signal.signal(signal.SIGUSR1, lambda *_: open("{trace}", "a").write("notified\\\\n"))
        open("{trace}", "a").write("begin\\\\n")
        while True: signal.pause()
        '''.replace('        ', '')]), notify_signal='SIGUSR1', run_on_load=False)
        """)
    ensemble.put('/n', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/n', 1)
    trace.wait_for_line('begin')
    twitcher.wait_log('n.twc: pid .* started')
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/n', 2)
    assert trace.wait(2) == ['begin', 'notified']
