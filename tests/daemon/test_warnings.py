"""What Python and the libraries find deprecated is no news for an operator: no warning reaches the log or the terminal."""

from __future__ import annotations

import os
import re
import signal

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import call

ALL_WARNINGS = {'PYTHONWARNINGS': 'always'}
CONFIG = '''
    import os
    def function():
        print('a function')
    def calls():
        Exec('echo a call')()
    def fails():
        raise ValueError('a failure')
    for action in (Exec('echo a command'), Exec(['echo', 'a list']), function, calls, fails):
        RegisterWatch('/a', action, timeout=60)
        RegisterWatch('/a', action, uid='nobody')
    RegisterWatch('/a', lambda: os.kill(os.getpid(), 9), run_mode=PARALLEL)
    RegisterWatch('/', Exec('cat'), watch_type=WATCH_CHILDREN)
    RegisterWatch('/a', Exec('sleep 1000'), timeout=0.1)
'''
RUNS = 13


def test_a_daemon_that_does_all_that_it_can_shows_no_warning(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('a.twc', CONFIG)
    ensemble.put('/a', 1)
    twitcher.start('--verbose', environment=ALL_WARNINGS)
    twitcher.wait_log(r': pid \d+ (exited|was killed)', count=RUNS)
    ensemble.put('/a', 2)
    twitcher.wait_log(r': pid \d+ (exited|was killed)', count=2 * RUNS - 1)  # the children are still the same
    twitcher.config('a.twc', CONFIG + 'RegisterWatch("relative", Exec("true"))')
    twitcher.wait_log('stays in force')
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('echo another'))")
    twitcher.wait_log('another')
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('SIGHUP')
    assert twitcher.stop() == 0
    twitcher.start(environment=ALL_WARNINGS)
    twitcher.fence(ensemble)
    twitcher.config('warns.twc', "import warnings\nwarnings.warn('this one is shown', DeprecationWarning)")
    twitcher.wait_log('warns.twc: loaded')
    shown = re.findall('.*Warning: .*', twitcher.log() + twitcher.stdio())
    assert len(shown) == 1 and 'warns.twc:2: DeprecationWarning: this one is shown' in shown[0], shown


def test_twitcherctl_shows_no_warning(ensemble: Ensemble) -> None:
    done = call('twitcherctl', 'poke', '--zkservers', ensemble.hosts, '/a', 'text', environment=ALL_WARNINGS)
    assert (done.returncode, done.stdout, done.stderr) == (0, b'0\n', b'twitcherctl: /a did not exist: created\n')
