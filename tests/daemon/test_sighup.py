"""SIGHUP: every config is read again, and what has not changed runs nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.configs import fence, hup, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace, wait_for

ACTIONS = {
    'function': 'def action(): say()',
    'function with a default': 'def action(how={"a": say}): how["a"]()',
    'instance': 'class Action:\n    def __call__(self): say()\naction = Action()',
    'method': 'class Action:\n    def run(self): say()\naction = Action().run',
    'partial': 'import functools\naction = functools.partial(lambda what: what(), say)',
    'closure over an object': 'class A: run = staticmethod(say)\ndef make(a): return lambda: a.run()\naction = make(A())',
    'cached function': 'import functools\n@functools.lru_cache\ndef action(): say()',
    'dataclass': 'import dataclasses\n@dataclasses.dataclass\nclass Action:\n    n: int\n    def __call__(self): say()\n'
                 'action = Action(1)',
}


def test_sighup_rereads_the_configs_and_runs_nothing_anew(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    other = twitcher.directory / 'imported'
    other.write_text('/one')
    twitcher.config('a.twc', f"RegisterWatch(open('{other}').read(), Exec('echo $TWITCHER_ZNODE >> {trace}'))")
    twitcher.config('b.twc', f"RegisterWatch('/b', Exec('echo $TWITCHER_ZNODE >> {trace}'))")
    for znode in ('/one', '/two', '/b'):
        ensemble.put(znode, '')
    twitcher.start()
    trace.wait(2)
    other.write_text('/two')
    os.kill(twitcher.pid, signal.SIGHUP)
    trace.wait_for_line('/two')
    twitcher.fence(ensemble)
    assert sorted(trace.lines()) == ['/b', '/one', '/two']


def test_sighup_during_the_start_does_no_harm(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    twitcher.start('--pidfile', str(tmp_path / 'early'), wait=False)
    wait_for('the pid', lambda: (tmp_path / 'early').exists() and (tmp_path / 'early').read_text())
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('ZooKeeper: connected')
    assert twitcher.stop() == 0


def test_neither_sighup_nor_the_same_text_again_runs_anything(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    text = ''.join(watch(f'/{number}', trace, f'w{number}', f'run_mode={mode}')
                   for number, mode in enumerate(['QUEUE', 'DISCARD', 'PARALLEL'])) + watch('/not/there', trace, 'never')
    path = twitcher.config('a.twc', text)
    for number in range(3):
        ensemble.put(f'/{number}', number)
    twitcher.start()
    before = sorted(trace.wait(3))
    path.write_text(text)
    twitcher.config('a.twc', text)
    os.utime(path)
    hup(twitcher)
    twitcher.config('a.twc', '# a comment moves the lines\n\n' + text)
    hup(twitcher)
    fence(twitcher, ensemble)
    assert before == ['w0 load 0', 'w1 load 1', 'w2 load 2']
    assert sorted(trace.lines()) == before
    ensemble.put('/1', 'x')
    trace.wait_for_line('w1 changed x')


@pytest.mark.parametrize('kind', ACTIONS)
def test_sighup_runs_nothing_whatever_kind_of_callable_the_action_is(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                     kind: str) -> None:
    twitcher.config('a.twc', f"def say():\n    open('{trace}', 'a').write('ran\\n')\n{ACTIONS[kind]}\n"
                             "RegisterWatch('/a', action)\n")
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait(1)
    hup(twitcher)
    fence(twitcher, ensemble)
    assert len(twitcher.started('a.twc')) == 1
    ensemble.put('/a', 1)
    trace.wait(2)


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
