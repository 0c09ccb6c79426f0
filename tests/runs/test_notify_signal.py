"""notify_signal reaches the service, not the shell that started it; it kills none that is still starting, and never are
there two of them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from tests.runs.test_timeouts import group_members
from tests.support.daemon import Ensemble, Trace, Twitcher, is_alive, wait_for

# Takes its time until it catches SIGHUP, if the file of that name with .slow exists: then until .go does.
SERVICE = '''#!/usr/bin/python3
import os, signal, time
trace = '{trace}'
def say(line):
    with open(trace, 'a') as file:
        file.write(line + '\\n')
def wait(name):
    while not os.path.exists(trace + name):
        time.sleep(0.02)
say(f'starts {{os.getpid()}}')
{start}
say('ready')
while True:
    time.sleep(1000)
'''
CATCHES = "signal.signal(signal.SIGHUP, lambda *_: say('reloaded'))"
CATCHES_LATE = f"wait('.go')\ntime.sleep(0.5)\n{CATCHES}"


def service(trace: Trace, start: str = CATCHES) -> Path:
    """The program of a service, in a directory that everybody may enter."""
    path = trace.path.with_name('service')
    path.write_text(SERVICE.format(trace=trace, start=start))
    path.chmod(0o755)
    return path


def services(trace: Trace) -> List[int]:
    """The pids of all that have been started."""
    return [int(line.split()[1]) for line in trace.lines() if line.startswith('starts')]


def living(trace: Trace) -> List[int]:
    """Those that go on."""
    return [pid for pid in services(trace) if is_alive(pid)]


def reloads(trace: Trace) -> int:
    return trace.lines().count('reloaded')


@pytest.fixture(autouse=True)
def _none_is_left(trace: Trace) -> Iterator[None]:
    yield
    for pid in living(trace):
        os.kill(pid, 9)


@pytest.mark.parametrize('words', ['', ' --foreground --config=/etc/my-service.conf,2 @x +y %z 1:2'])
def test_a_simple_command_in_a_string_is_the_process_of_the_run_itself(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, words: str) -> None:
    path = service(trace)
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('{path}{words}'), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    assert services(trace) == twitcher.wait_started('n.twc')
    for number in (1, 2):
        ensemble.put('/n', number)
        wait_for('a reload', lambda number=number: reloads(trace) == number)  # type: ignore[misc]
    assert services(trace) == living(trace) == twitcher.started('n.twc')


def test_a_service_that_is_still_starting_is_not_killed_but_gets_the_signal_when_it_catches_it(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace, CATCHES_LATE)
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec(['{path}']), notify_signal='SIGHUP', run_on_load=False)")
    ensemble.put('/n', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    Path(f'{trace}.go').touch()
    for number in (1, 2):
        ensemble.put('/n', number)
        time.sleep(0.01)
    trace.wait_for_line('reloaded')
    twitcher.fence(ensemble)
    assert living(trace) == services(trace) == twitcher.started('n.twc')
    assert len(services(trace)) == 1
    assert len(twitcher.log_lines('n.twc: SIGHUP to pid')) == reloads(trace) == 1


def test_a_function_that_is_still_starting_is_not_killed_either(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', SERVICE.format(trace=trace, start='').partition('say(f')[0] + f'''
def serve():
    say(f'starts {{os.getpid()}}')
    time.sleep(0.5)
    {CATCHES}
    say('ready')
    time.sleep(1000)
RegisterWatch('/n', serve, notify_signal='SIGHUP', run_on_load=False)
''')
    ensemble.put('/n', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    for number in (1, 2):
        ensemble.put('/n', number)
        time.sleep(0.01)
    trace.wait_for_line('reloaded')
    twitcher.fence(ensemble)
    assert living(trace) == services(trace) == twitcher.started('n.twc')
    assert len(services(trace)) == 1


def test_the_wait_ends_after_five_seconds(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace, '')
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec(['{path}']), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    began = time.monotonic()
    ensemble.put('/n', 1)
    assert twitcher.wait_ended('n.twc') == ['was killed by SIGHUP']
    assert 4.5 < time.monotonic() - began < 20


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGKILL'])
def test_a_signal_that_means_an_end_does_not_wait(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, name: str) -> None:
    path = service(trace, 'signal.signal(signal.SIGINT, signal.SIG_DFL)')
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('{path}'), notify_signal='{name}')")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    ensemble.put('/n', 1)
    assert twitcher.wait_ended('n.twc') == [f'was killed by {name}']
    end = twitcher.wait_log(r'(?m)^\S+ (\S+) .*n.twc: pid \d+ was killed')[0][1]
    sent = twitcher.wait_log(r'(?m)^\S+ (\S+) .*n.twc: \w+ to pid')[0][1]
    assert (seconds(end) - seconds(sent)) % 86400 < 3


def seconds(clock: str) -> float:
    """Of a day."""
    hours, minutes, rest = clock.replace(',', '.').split(':')
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def test_a_process_that_reads_its_signals_from_a_descriptor_need_not_wait_long(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace, """import ctypes
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
descriptor = ctypes.CDLL(None).signalfd(-1, b'\\1' + bytes(127), 0)
say('ready')
while os.read(descriptor, 128): say('reloaded')""")
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec(['{path}']), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    began = time.monotonic()
    ensemble.put('/n', 1)
    trace.wait_for_line('reloaded')
    assert time.monotonic() - began < 4


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


@pytest.mark.parametrize('deaf', [False, True])
def test_what_a_killed_shell_leaves_of_a_service_ends_before_the_next_run(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, deaf: bool) -> None:
    path = service(trace, 'signal.signal(signal.SIGTERM, signal.SIG_IGN)' if deaf else '')
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('{path} | cat'), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    [first] = services(trace)
    ensemble.put('/n', 1)
    wait_for('the next run', lambda: len(services(trace)) == 2)
    assert not is_alive(first)
    assert twitcher.ended('n.twc')[0] == 'was killed by SIGHUP'
    assert twitcher.log_lines(r'n.twc: notify_signal has ended pid \d+, but not its process group: SIGTERM')
    assert bool(twitcher.log_lines('n.twc: .*SIGKILL')) == deaf
    twitcher.fence(ensemble)
    assert len(living(trace)) == 1


@pytest.mark.parametrize('end', [Twitcher.kill, Twitcher.stop], ids=['killed', 'stopped'])
def test_the_next_daemon_ends_it_too(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, end: Callable[[Twitcher], object]) -> None:
    path = service(trace, 'signal.signal(signal.SIGTERM, signal.SIG_IGN)')
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('{path} | cat'), notify_signal='SIGHUP')")
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    [first] = services(trace)
    [leader] = twitcher.wait_started('n.twc')
    ensemble.put('/n', 1)
    wait_for('the end of the shell', lambda: twitcher.ended('n.twc'))
    end(twitcher)
    assert is_alive(first)
    twitcher.start()
    wait_for('the end of the service', lambda: not group_members(leader))
    wait_for('the next run', lambda: len(services(trace)) == 2)
    twitcher.fence(ensemble)
    assert len(living(trace)) == 1


def test_a_reattached_shell_that_dies_of_the_signal_leaves_no_service_behind(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = service(trace, '')
    twitcher.config('n.twc', f"RegisterWatch('/n', Exec('{path} | cat'), notify_signal='SIGTERM', run_on_load=False)")
    ensemble.put('/n', 0)
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.put('/n', 1)
    trace.wait_for_line('ready')
    [first] = services(trace)
    twitcher.fence(ensemble)
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    assert living(trace) == [first]
    ensemble.put('/n', 2)
    wait_for('the next run', lambda: len(services(trace)) == 2)
    assert not is_alive(first)
    twitcher.fence(ensemble)
    assert len(living(trace)) == 1


def test_what_a_service_leaves_that_has_ended_by_itself_goes_on(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('n.twc', f'''
        RegisterWatch('/n', Exec("""sleep 1000 & echo $! >> {trace}
                                    trap 'exit 3' HUP; echo ready >> {trace}; wait"""), notify_signal='SIGHUP')
    ''')
    ensemble.put('/n', 0)
    twitcher.start()
    trace.wait_for_line('ready')
    background = int(trace.lines()[0])
    ensemble.put('/n', 1)
    assert twitcher.wait_ended('n.twc') == ['exited 3']
    twitcher.wait_started('n.twc', 2)
    assert is_alive(background)


SHELL_WARNING = r'WARNING: \S*/{}: {}: notify_signal reaches the shell'


def test_a_string_that_keeps_the_signal_from_its_service_is_told_at_load(twitcher: Twitcher, ensemble: Ensemble) -> None:
    told = ["Exec('appd | logger')", "Exec('cat > /dev/null; appd')", "Exec('. /etc/default/appd; appd $OPTIONS')",
            "Exec('cd /srv\\nappd')", "Exec('A=b appd')"]
    silent = ["Exec('exec appd $X')", "Exec('trap : HUP; appd & wait')", "Exec('appd -f')", "Exec(['sh', '-c', 'a | b'])",
              "Exec('  /usr/sbin/appd --x=1 \\n')", 'lambda: None', "Exec('a | b'), run_mode=PARALLEL"]
    text = ''.join(f"RegisterWatch('/none', {action}, notify_signal='HUP')\n" for action in told + silent)
    text += "RegisterWatch('/none', Exec('a | b'))\n"
    twitcher.config('a.twc', text)
    twitcher.config('mine.twc', "RegisterWatch('/none', Exec('a | b'), notify_signal='HUP', description='mine')")
    twitcher.start('--debug')
    twitcher.fence(ensemble)
    warned = re.findall(SHELL_WARNING.format('a.twc', r'a.twc#(\d+)'), twitcher.log())
    assert warned == [str(number) for number in range(1, len(told) + 1)]
    assert twitcher.log_lines(SHELL_WARNING.format('mine.twc', 'mine'))
    before = len(twitcher.log_lines('notify_signal'))
    twitcher.config('a.twc', text)
    twitcher.config('a.twc', text + '# edited\n')
    twitcher.wait_log('a.twc: loaded', 2)
    os.kill(twitcher.pid, 1)
    twitcher.wait_log('SIGHUP: rereading')
    twitcher.fence(ensemble)
    assert len(twitcher.log_lines('notify_signal')) == before
