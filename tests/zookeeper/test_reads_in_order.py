"""What a daemon reads of a znode is believed in the order in which the server said it, and little of it waits at a time."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import Callable

import pytest

from tests.support.actions import echo
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import process_status
from tests.support.programs import TOP
from tests.support.waiting import Trace, wait_for

Change = Callable[[str], None]


@pytest.fixture
def start_changed(twitcher: Twitcher, tmp_path: Path) -> Change:
    """Starts the `twitcher` fixture with code that runs in its interpreter before it does."""
    def start(code: str) -> None:
        (tmp_path / 'site').mkdir()
        (tmp_path / 'site/sitecustomize.py').write_text(textwrap.dedent(code))
        twitcher.start(environment={'PYTHONPATH': f'{tmp_path}/site:{TOP}'})

    return start


def test_an_answer_that_is_late_does_not_overtake_a_newer_one(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, start_changed: Change) -> None:
    # The event loop's thread loses its processor after it has sent the first read of /a, until a later one is answered.
    start_changed(f"""
        import os, threading, time
        import kazoo.client

        original = kazoo.client.KazooClient.get_async

        def read(self, path, watch=None):
            answer = original(self, path, watch)
            if path == '/a' and not os.path.exists(SENT):
                assert threading.current_thread() is threading.main_thread()
                time.sleep(0.1)
                open(SENT, 'w').close()
                for _ in range(1000):
                    if os.path.exists(ANSWERED):
                        break
                    time.sleep(0.01)
            elif path == '/a':
                answer.rawlink(lambda _: open(ANSWERED, 'w').close())
            return answer

        SENT, ANSWERED = '{twitcher.directory}/sent', '{twitcher.directory}/answered'
        kazoo.client.KazooClient.get_async = read
        """)
    ensemble.put('/a', 'old')
    twitcher.config('a.twc', f"RegisterWatch('/a', {echo(trace)})")
    wait_for('the read', (twitcher.directory / 'sent').exists)
    ensemble.put('/a', 'new')
    trace.wait_for_line('new')
    twitcher.fence(ensemble)
    wait_for('the end of the runs', lambda: len(twitcher.log_lines(r': pid \d+ started'))
             == len(twitcher.log_lines(r': pid \d+ exited')))
    assert trace.lines()[-1] == 'new', trace.lines()


def test_updates_while_the_loop_is_busy_do_not_pile_up(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('a.twc', f"RegisterWatch('/a', Exec('head -c 5 >> {trace}; echo >> {trace}'))")
    ensemble.put('/a', b'first')
    twitcher.start()
    trace.wait_for_line('first')
    before = int(process_status(twitcher.pid)['VmHWM'].split()[0])
    busy, go = twitcher.directory / 'busy', twitcher.directory / 'go'
    twitcher.config('busy.twc', f"""
        import os, time
        open('{busy}', 'w').close()
        while not os.path.exists('{go}'):
            time.sleep(0.01)
        """)
    wait_for('the busy loop', busy.exists)
    deadline = time.monotonic() + 7  # a file is interrupted after ten seconds
    number = 0
    while time.monotonic() < deadline and number < 300:
        number += 1
        ensemble.client.set('/a', b'%05d' % number + b'x' * 50_000)
        time.sleep(0.005)
    ensemble.client.set('/a', b'final')
    go.touch()
    trace.wait_for_line('final')
    after = int(process_status(twitcher.pid)['VmHWM'].split()[0])
    assert number > 50
    assert after - before < 6_000, f'{after - before} kB more after {number} updates'


@pytest.mark.parametrize('failing', ['in the subscriptions', 'in the client'])
def test_an_update_whose_answer_could_not_be_handled_runs_soon_and_is_logged_once(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, start_changed: Change, failing: str) -> None:
    ensemble.put('/a', 0)
    ensemble.put('/b', 0)
    twitcher.config('a.twc', f"RegisterWatch('/a', {echo(trace)})")
    patch = {
        'in the subscriptions': """
            import twitcher.zookeeper.subscriptions
            subscriptions, name = twitcher.zookeeper.subscriptions, 'revision_of'
            original = getattr(subscriptions, name)
            def fail(watch_type, stat):
                if stat.version in (1, 2):
                    if os.path.exists(FLAG):
                        raise MemoryError('the test says so')
                return original(watch_type, stat)
            setattr(subscriptions, name, fail)
            """,
        'in the client': """
            import kazoo.client
            original = kazoo.client.KazooClient.get_async
            def fail(self, path, watch=None):
                if path == '/a' and os.path.exists(FLAG):
                    raise MemoryError('the test says so')
                return original(self, path, watch)
            kazoo.client.KazooClient.get_async = fail
            """,
    }[failing]
    flag = twitcher.directory / 'flag'
    start_changed(f'import os\nFLAG = {str(flag)!r}\n' + textwrap.dedent(patch))
    trace.wait_for_line('0')
    flag.touch()
    ensemble.put('/a', 1)
    twitcher.wait_log('the test says so')
    twitcher.config('b.twc', f"RegisterWatch('/b', Exec('echo b >> {trace}'))")
    trace.wait_for_line('b')
    flag.unlink()
    trace.wait_for_line('1')
    assert len(twitcher.log_lines('internal error')) == 1
    ensemble.put('/a', 2)
    trace.wait_for_line('2')
