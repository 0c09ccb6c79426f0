"""Services in RESTART mode, whose daemon is killed at any moment: none runs twice, and each gets the newest contents."""

from __future__ import annotations

import os
import random
import time
from typing import List

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.waiting import Trace, wait_for

SERVICES = 4
CHANGES = 12

SERVICE = '''\
import fcntl, os, signal, subprocess, sys, time
directory, number, is_deaf = sys.argv[1:]
def say(*words):
    with open(directory + '/trace', 'a') as file:
        print(*words, file=file)
lock = os.open(f'{directory}/lock{number}', os.O_RDWR | os.O_CREAT)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    say('overlap', number)
os.set_inheritable(lock, True)
if is_deaf == '1':
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
# A child that has the lock as well, and outlives us for a moment.
slow = 'import signal, time; signal.signal(15, lambda *_: (time.sleep(0.05), exit())); time.sleep(1000)'
subprocess.Popen([sys.executable, '-S', '-c', slow], close_fds=False)
say(number, sys.stdin.read(), os.getpid())
time.sleep(1000)
'''


def last_lines(trace: Trace) -> List[List[str]]:
    """What the newest run of each service has written."""
    newest = {line.split()[0]: line.split() for line in trace.lines() if line[0].isdigit()}
    return [newest[name] for name in sorted(newest)]


@pytest.mark.parametrize('seed', [1, 2])
def test_no_service_runs_twice_and_each_is_restarted_with_the_newest_contents(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, seed: int) -> None:
    chance = random.Random(seed)
    program = twitcher.directory / 'service.py'
    program.write_text(SERVICE)
    for number in range(SERVICES):
        ensemble.put(f'/s{number}', 'first')
    twitcher.config('s.twc', f'''
        import sys
        for number in range({SERVICES}):
            RegisterWatch('/s%d' % number, Exec([sys.executable, '-S', '{program}', '{twitcher.directory}', str(number),
                                                 str(number % 2)]), run_mode=RESTART, grace=0.3,
                          run_on_load=CHANGED, description='s%d' % number)
    ''')
    twitcher.start()
    for change in range(CHANGES):
        for number in chance.sample(range(SERVICES), 2):
            ensemble.put(f'/s{number}', f'{change}')
        time.sleep(chance.random() * 0.6)
        if chance.random() < 0.5:
            twitcher.kill()
            for number in chance.sample(range(SERVICES), 1):
                ensemble.put(f'/s{number}', f'{change}a')
            twitcher.start(wait=chance.random() < 0.7)
    for number in range(SERVICES):
        ensemble.put(f'/s{number}', 'last')
    wait_for('the last contents', lambda: [line[1] for line in last_lines(trace)] == ['last'] * SERVICES)
    assert [line for line in trace.lines() if 'overlap' in line] == []
    twitcher.fence(ensemble)
    living = [line for line in trace.lines() if is_alive(int(line.split()[2]))]
    assert sorted(line.split()[1] for line in living) == ['last'] * SERVICES
    for line in last_lines(trace):
        os.kill(int(line[2]), 9)
