"""What the user database says of a watch's user may change: that is no edit of its file."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.configs import fence
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace


def test_a_user_who_joins_a_group_runs_nothing_at_a_sighup_but_has_it_in_the_next_run(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    groups = twitcher.directory / 'group'
    groups.write_text(Path('/etc/group').read_text() + 'joined:x:54321:\n')
    trace.path.touch()
    trace.path.chmod(0o666)
    for parent in list(trace.path.parents)[:-2]:  # but for /tmp and /
        parent.chmod(0o755)
    twitcher.config('u.twc', f"RegisterWatch('/u', Exec('echo `cat` `id -G` >> {trace}'), uid='nobody')")
    ensemble.put('/u', 0)
    twitcher.start(wrapper=['unshare', '--mount', 'sh', '-c', f'mount --bind {groups} /etc/group && exec "$@"', 'sh'])
    assert trace.wait(1) == ['0 65534']
    with groups.open('r+') as file:  # in place: another file would not be the one that is mounted
        text = file.read().replace('joined:x:54321:', 'joined:x:54321:nobody')
        file.seek(0)
        file.write(text)
    before = len(twitcher.log())
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('SIGHUP: rereading', after=before)
    fence(twitcher, ensemble)
    assert trace.lines() == ['0 65534']
    ensemble.put('/u', 1)
    assert trace.wait(2)[1] == '1 65534 54321'
