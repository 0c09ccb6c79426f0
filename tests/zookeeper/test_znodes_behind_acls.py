"""Znodes that a daemon may not read for a while: it hears of them again, although the server says nothing."""

from __future__ import annotations

import pytest
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace, wait_for

NOBODY_READS = [make_acl('world', 'anyone', create=True, write=True, delete=True, admin=True)]


@pytest.mark.timeout(200)
@pytest.mark.parametrize('watch_type', ['WATCH_DATA', 'WATCH_CHILDREN'])
def test_a_watch_that_the_server_took_back_while_an_acl_was_closed_is_set_again_within_two_minutes(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, watch_type: str) -> None:
    def change(number: int) -> None:
        if watch_type == 'WATCH_DATA':
            ensemble.put('/a', number)
        else:
            ensemble.put(f'/a/{number}', '')

    ensemble.put('/a', 0)
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec('cat >> {trace}; echo :$TWITCHER_VERSION >> {trace}'), "
                             f"watch_type={watch_type}, run_on_load=False)")
    twitcher.start()
    twitcher.fence(ensemble)
    ensemble.client.set_acls('/a', NOBODY_READS)
    change(1)  # the server does not tell, and forgets the watch
    ensemble.client.set_acls('/a', OPEN_ACL_UNSAFE)
    for number in range(2, 7):
        change(number)
    wait_for('the run that has seen the last change', lambda: trace.lines() and '6' in ''.join(trace.lines()), patience=120)
    twitcher.fence(ensemble)
    change(7)
    trace.wait_for_line({'WATCH_DATA': '7:7', 'WATCH_CHILDREN': ':7'}[watch_type])
