"""One daemon with watches in all modes, for tests of what makes them run and what does not."""

from __future__ import annotations

from typing import List

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace, wait_for

LOADED = ['a 0 load', 'idle 0 load', 'par 0 load']


def watch_several(daemon: Twitcher, part: Ensemble, trace: Trace) -> None:
    """Write a config that watches /a, and other znodes, in all modes."""
    for name in ('a', 'idle', 'late', 'par'):
        part.put(f'/{name}', 0)
    daemon.config('all.twc', f"""
        def watch(name, **more):
            RegisterWatch('/' + name, Exec('echo ' + name + ' `cat` $TWITCHER_EVENT >> {trace}'), description=name, **more)

        watch('a')
        watch('idle')
        watch('late', run_on_load=False)
        watch('par', run_mode=PARALLEL)
        watch('absent')
        RegisterWatch('/', Exec('echo children >> {trace}'), watch_type=WATCH_CHILDREN, run_on_load=False)
        """)


def settled_lines(daemon: Twitcher, part: Ensemble, trace: Trace) -> List[str]:
    """The lines of all runs but of those for children, as soon as all that has changed so far has been run for."""
    daemon.fence(part)
    wait_for('the end of all runs', lambda: len(daemon.log_lines(r': pid \d+ (exited|was killed)'))
             == len(daemon.log_lines(r': pid \d+ started')))
    return sorted(line for line in trace.lines() if line != 'children')


def start_several(daemon: Twitcher, part: Ensemble, trace: Trace) -> None:
    """Start it with these watches, and wait for the runs at load."""
    daemon.config('fence.twc', f"RegisterWatch('/fence', Exec('echo `cat` >> {daemon.directory}/fence'), run_mode=PARALLEL)")
    watch_several(daemon, part, trace)
    part.put('/fence', 'there')
    daemon.start()
    assert settled_lines(daemon, part, trace) == LOADED
