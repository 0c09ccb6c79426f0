"""Config files that come, change and go under a running daemon: what that does to watches."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.configs import fence, hup, slow, watch
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace

# Whole or not at all

BAD = {
    'syntax': ("\nif True\n    pass", r':2: SyntaxError'),
    'exception': ("{good}1 / 0", r':2: ZeroDivisionError: division by zero'),
    'exit': ("{good}\nraise SystemExit(0)", ':3: SystemExit'),
    'interrupt': ("{good}raise KeyboardInterrupt", ':2: KeyboardInterrupt'),
    'argument': ("{good}RegisterWatch('b', Exec('x'))", ":2: znode='b'"),
    'keyword': ("{good}RegisterWatch('/b', Exec('x'), flavour=3)", ':2: .*flavour'),
    'recursion': ("{good}def f(): f()\nf()", ':2: RecursionError'),
    'NUL': ("{good}\0", ': .*null'),
    'large': ('#' * (1 << 20) + '\n', ': .*1048577'),
    'unprintable': ("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", ':3: E'),
}


@pytest.mark.parametrize('kind', BAD)
def test_a_version_that_does_not_load_leaves_the_previous_one_in_force(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                       kind: str) -> None:
    source, reason = BAD[kind]
    twitcher.config('a.twc', watch('/a', trace, 'old'))
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait_for_line('old load 0')
    twitcher.config('a.twc', source.replace('{good}', watch('/new', trace, 'new')))
    twitcher.wait_log(rf'a\.twc{reason}')
    ensemble.put('/a', 1)
    ensemble.put('/new', 1)
    trace.wait_for_line('old changed 1')
    fence(twitcher, ensemble)
    assert trace.lines() == ['old load 0', 'old changed 1']
    record, = twitcher.log_lines(r' ERROR: ')
    assert str(twitcher.configs / 'a.twc') in record and 'stays in force' in record
    assert twitcher.log_lines('Traceback') == []


def test_an_unreadable_file_leaves_the_previous_version_in_force(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    path = twitcher.config('a.twc', watch('/a', trace, 'old'))
    twitcher.start()
    twitcher.wait_log('a.twc: loaded')
    (path.parent / 'link').symlink_to('a.twc')
    (path.parent / 'link').rename(path)  # a symlink to itself: nobody can read it, not even root
    twitcher.wait_log(r'a\.twc: cannot be read: Too many levels of symbolic links; .*stays in force')
    ensemble.put('/a', 1)
    trace.wait_for_line('old created 1')
    hup(twitcher)
    fence(twitcher, ensemble)
    assert trace.lines() == ['old created 1']


def test_a_file_that_did_not_load_takes_effect_once_it_is_mended(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    ensemble.put('/a', 0)
    twitcher.config('a.twc', watch('/a', trace, 'early') + 'raise ValueError("not yet")')
    twitcher.start()
    twitcher.wait_log(r'a\.twc:2: ValueError: not yet; not loaded')
    twitcher.config('a.twc', watch('/a', trace, 'good'))
    trace.wait_for_line('good load 0')
    fence(twitcher, ensemble)
    assert trace.lines() == ['good load 0']


def test_a_file_that_never_returns_is_given_up_and_delays_the_others_no_longer(twitcher: Twitcher, ensemble: Ensemble,
                                                                              trace: Trace) -> None:
    twitcher.config('a.twc', watch('/a', trace, 'a'))
    twitcher.start()
    fence(twitcher, ensemble)
    twitcher.config('endless.twc', 'while True:\n    try:\n        while True: pass\n    except BaseException: pass\n')
    twitcher.wait_log(r'endless\.twc:\d: still executing after 10 s')
    ensemble.put('/a', 1)
    trace.wait_for_line('a created 1')
    assert twitcher.stop() == 0


# Editing one watch

def test_editing_one_watch_of_a_file_leaves_the_others_and_their_queue_untouched(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    for znode in ('/slow', '/same', '/edited'):
        ensemble.put(znode, 0)
    others = slow('/slow', trace, gate) + watch('/same', trace, 'same')
    twitcher.config('a.twc', others + watch('/edited', trace, 'before'))
    twitcher.start()
    trace.wait(3)
    ensemble.put('/slow', 1)
    fence(twitcher, ensemble)
    twitcher.config('a.twc', watch('/edited', trace, 'after') + others)
    assert trace.wait_for_line('after load 0')[3:] == ['after load 0']
    fence(twitcher, ensemble)
    gate.touch()
    trace.wait(7)
    fence(twitcher, ensemble)
    assert trace.lines()[4:] == ['slow end', 'slow begin 1', 'slow end']


def test_a_changed_watch_with_run_on_load_false_goes_on_from_where_it_was(twitcher: Twitcher, ensemble: Ensemble,
                                                                          trace: Trace) -> None:
    ensemble.put('/a', 0)
    twitcher.config('a.twc', watch('/a', trace, 'v1', 'run_on_load=False'))
    twitcher.start()
    fence(twitcher, ensemble)
    for number in range(2, 6):
        twitcher.config('a.twc', watch('/a', trace, f'v{number}', 'run_on_load=False'))
        ensemble.put('/a', number)
        trace.wait(number - 1)
    fence(twitcher, ensemble)
    assert [line.split()[2] for line in trace.lines()] == ['2', '3', '4', '5']


def test_a_function_that_is_the_same_sees_the_new_version_of_what_it_calls(twitcher: Twitcher, ensemble: Ensemble,
                                                                           trace: Trace) -> None:
    text = f"NAME = '@'\ndef action():\n    open('{trace}', 'a').write(NAME + '\\n')\nRegisterWatch('/a', action)\n"
    ensemble.put('/a', 0)
    twitcher.config('a.twc', text.replace('@', 'one'))
    twitcher.start()
    trace.wait_for_line('one')
    twitcher.config('a.twc', text.replace('@', 'two'))
    fence(twitcher, ensemble)
    ensemble.put('/a', 1)
    trace.wait_for_line('two')


# Many

def test_watches_of_several_files_on_one_znode_come_and_go_alone(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    ensemble.put('/a', 0)
    paths = [twitcher.config(f'{name}/x.twc', watch('/a', trace, name) * 2) for name in ('p', 'q', 'r')]
    twitcher.start()
    trace.wait(6)

    for contents, expected in enumerate(['ppqqrr', 'qqrr', 'rr', ''], 1):
        ensemble.put('/a', contents)
        fence(twitcher, ensemble)
        lines = [line.split() for line in trace.wait(sum([6, 6, 4, 2, 0][:contents + 1]))]
        assert sorted(name for name, _, text in lines if text == str(contents)) == list(expected)
        if expected:
            paths[contents - 1].unlink()
            twitcher.wait_log(r'/x\.twc: removed', contents)


def test_a_thousand_files_come_change_and_go(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    for number in range(1000):
        (twitcher.configs / f'd{number % 10}').mkdir(exist_ok=True)
        (twitcher.configs / f'd{number % 10}/{number}.twc').write_text(watch(f'/n{number % 100}', trace, str(number)))
    twitcher.start()
    twitcher.wait_log(r'\.twc: loaded', 1000)
    fence(twitcher, ensemble)
    ensemble.put('/n7', 'x')
    assert sorted(trace.wait(10)) == sorted(f'{number} created x' for number in range(7, 1000, 100))
    (twitcher.configs / 'd7').rename(twitcher.configs / '.d7')
    twitcher.wait_log(r'\.twc: removed', 100)
    ensemble.put('/n7', 'y')
    ensemble.put('/n8', 'z')
    trace.wait(20)
    hup(twitcher)
    fence(twitcher, ensemble)
    assert len(trace.lines()) == 20 and all(line.endswith(' created z') for line in trace.lines()[10:])
