"""Runs that the machine refuses, or that fail for a reason that nobody foresaw: each is tried again, in one queue."""

from __future__ import annotations

from pathlib import Path

from tests.support.actions import echo, until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace, wait_for

WATCHES = 150


def test_watches_that_are_refused_for_want_of_descriptors_wait_in_one_queue(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    twitcher.config('r.twc', f'''
        for number in range({WATCHES}):
            RegisterWatch('/r', Exec('echo `cat` >> {trace}; {until(gate, 0.3)}'))
    ''')
    twitcher.start(wrapper=['prlimit', '--nofile=160:160'])
    ensemble.put('/r', 1)
    twitcher.wait_log('r.twc#.*Too many open files; trying again')
    assert len(trace.lines()) < WATCHES
    gate.touch()
    assert trace.wait(WATCHES) == ['1'] * WATCHES
    assert len(twitcher.log_lines('trying again')) == 1
    twitcher.wait_log('all runs that the machine had no room for have been started')


_SITE = '''
import os
real = os.pipe2
def pipe2(flags):
    if os.path.exists({path!r}):
        os.unlink({path!r})
        raise MemoryError('the test says so')
    return real(flags)
os.pipe2 = pipe2
'''


def test_an_exception_that_nobody_foresaw_in_the_start_of_a_run_loses_no_update(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, tmp_path: Path) -> None:
    fault = tmp_path / 'fault'
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(_SITE.format(path=str(fault)))
    twitcher.config('m.twc', f"RegisterWatch('/m', {echo(trace)}, pipe_stdin=False, description='m')\n"
                             f"RegisterWatch('/n', lambda: open('{trace}', 'a').write('n\\n') and None, pipe_stdin=False)")
    ensemble.put('/m', 0)
    ensemble.put('/n', 0)
    twitcher.start(environment={'PYTHONPATH': str(tmp_path / 'site')})
    trace.wait(2)
    for znode in ('/m', '/n'):
        fault.touch()
        ensemble.put(znode, 1)
        wait_for('the fault', lambda: not fault.exists())
    trace.wait(4)
    assert len(twitcher.log_lines('ERROR: .*MemoryError.*trying again')) == 2
