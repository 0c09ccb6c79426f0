"""What follows a failure of a run that an earlier daemon has started, where the kernel tells its exit code."""

from __future__ import annotations

import os
from pathlib import Path

from tests.runs.test_exit_codes_over_restarts import needs_kernel, set_subreaper
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace

pytestmark = needs_kernel

UNTIL = 'until test -e {gate}; do sleep 0.05; done; exit {code}'


def end_under_the_next_daemon(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, code: int,
                              arguments: str) -> None:
    """A run that begins under one daemon, and ends with the code under the next one."""
    twitcher.config('a.twc', f'''
        RegisterWatch('/a', Exec("echo $TWITCHER_EVENT $TWITCHER_ATTEMPT >> {trace}; {UNTIL.format(gate=gate, code=code)}"),
                      {arguments})
    ''')
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait(1)
    [pid] = twitcher.wait_started('a.twc')
    set_subreaper(True)
    try:
        twitcher.kill()
        twitcher.start()
        twitcher.wait_log(f'a.twc: pid {pid} of an earlier daemon')
        gate.touch()
        os.waitpid(pid, 0)
    finally:
        set_subreaper(False)
    twitcher.wait_log(f'a.twc: pid {pid} exited {code}')


def test_a_failure_is_retried(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    end_under_the_next_daemon(twitcher, ensemble, trace, gate, 7,
                              'run_on_load=CHANGED, on_failure=RETRY(times=1, delay=0.1)')
    assert trace.wait(2)[1].endswith(' 2')
    twitcher.wait_log('gave up after 2 attempts')


def test_a_success_is_not(twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    end_under_the_next_daemon(twitcher, ensemble, trace, gate, 0,
                              'run_on_load=CHANGED, on_failure=RETRY(times=1, delay=0.1)')
    twitcher.fence(ensemble)
    assert trace.lines() == ['load 1']
    twitcher.kill()
    twitcher.start()
    twitcher.fence(ensemble)
    assert trace.lines() == ['load 1']


def test_a_failure_stops_the_watch_of_another_user_and_it_stays_so(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                   gate: Path) -> None:
    trace.path.touch()
    trace.path.chmod(0o666)
    end_under_the_next_daemon(twitcher, ensemble, trace, gate, 7, "run_on_load=CHANGED, on_failure=STOP, uid='root'")
    twitcher.wait_log('a.twc: failed .exit 7.: stopped')
    ensemble.put('/a', 1)
    twitcher.fence(ensemble)
    twitcher.kill()
    twitcher.start()
    twitcher.wait_log('WARNING: a.twc: stopped')
    twitcher.fence(ensemble)
    assert len(trace.lines()) == 1
