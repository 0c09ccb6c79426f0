"""The end of a run: the line in the log, and what happens to the processes that the run leaves behind."""

from __future__ import annotations

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.waiting import Trace


def test_what_a_run_leaves_in_the_background_is_left_alone(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    twitcher.config('t.twc', f'''
        RegisterWatch('/t', Exec('sleep 1000 & echo $! >> {trace}'), description='no timeout')
        RegisterWatch('/t', Exec('sleep 1000 & echo $! >> {trace}'), timeout=3, description='in time')
        RegisterWatch('/t', Exec(['sleep', '1000']), timeout=3.5, description='later')
    ''')
    ensemble.put('/t', '')
    twitcher.start()
    for description in ('no timeout', 'in time'):
        assert twitcher.wait_end_line(description)[2] == 'exited 0'
    twitcher.wait_end_line('later')  # by now the other timeout would have come
    assert all(is_alive(int(line)) for line in trace.wait(2))
    assert not twitcher.log_lines('(no timeout|in time): .*SIG')
    ensemble.put('/t', 'a change')
    trace.wait(4)  # nor does it hold up the next run
    for description in ('no timeout', 'in time'):
        twitcher.wait_started(description, 2)  # whose groups are ended by what the log says


def test_the_end_of_a_run_is_logged_with_description_pid_how_and_duration(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('t.twc', '''
        RegisterWatch('/t', Exec('sleep 0.3'), description='good one')
        RegisterWatch('/t', Exec('exit 7'), description='bad one')
        RegisterWatch('/t', Exec('kill -SEGV $$'), description='killed one')
    ''')
    ensemble.put('/t', '')
    twitcher.start()
    for description, level, how in (('good one', 'INFO', 'exited 0'), ('bad one', 'WARNING', 'exited 7'),
                                    ('killed one', 'WARNING', 'was killed by SIGSEGV')):
        end = twitcher.wait_end_line(description)
        assert (int(end[1]), end[2]) == (twitcher.started(description)[0], how)
        assert twitcher.log_lines(rf' {level}: {description}: pid {end[1]} {how} after')
    assert 0.3 <= float(twitcher.wait_end_line('good one')[3]) < 20
