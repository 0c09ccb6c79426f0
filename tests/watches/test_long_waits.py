"""The log tells of an update that has been waiting for a run for longer than a minute, once."""

from __future__ import annotations

from pathlib import Path

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace


def test_an_update_that_waits_long_for_a_run_is_worth_a_line(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    twitcher.config('w.twc', f"""
        import sys
        for name in ('twitcher.runs.slow_run', 'twitcher.runs.coarse_timer'):
            if name in sys.modules:
                vars(sys.modules[name]).update(LONG_WAIT=1, INTERVAL=0.1)
        RegisterWatch('/w', Exec('echo `cat` >> {trace}; {until(gate)}'), description='long')
        RegisterWatch('/w', Exec('true'), description='short')
        """)
    ensemble.put('/w', 0)
    twitcher.start()
    trace.wait(1)
    [pid] = twitcher.wait_started('long')
    for number in (1, 2):
        ensemble.put('/w', number)
        twitcher.fence(ensemble)
    pattern = rf'WARNING: long: an update has been waiting for \d+ s for the end of pid {pid}, which was started \d+ s ago'
    twitcher.wait_log(pattern)
    ensemble.put('/w', 3)
    twitcher.fence(ensemble)
    gate.touch()
    assert trace.wait(2) == ['0', '3']
    twitcher.wait_ended('long', 2)
    assert len(twitcher.log_lines('has been waiting')) == 1
