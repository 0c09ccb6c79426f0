"""notify_signal where a shell stands between the run and its service: the signal meets the service, or a warning says
that it does not, and a shell that dies of it leaves no service behind."""

from __future__ import annotations

import os
import re
from typing import Callable

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import group_members, is_alive
from tests.support.services import living, reloads, service, services
from tests.support.waiting import Trace, wait_for

SHELL_WARNING = r'WARNING: \S*/{}: {}: notify_signal reaches the shell'


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
    twitcher.wait_started('n.twc', 2)
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
