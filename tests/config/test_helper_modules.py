"""Modules below the configuration directory: importable by the files there, always fresh, and nobody else's."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.support.configs import fence, hup, watch
from tests.support.daemon import Twitcher, outcomes
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace

USER = "import helper\n{}RegisterWatch('/a', Exec('echo ' + helper.word + ' >> {}'))\n"


def put(twitcher: Twitcher, name: str, text: str) -> Path:
    """Write a helper module."""
    return twitcher.config(name, text)


def start(twitcher: Twitcher, ensemble: Ensemble) -> None:
    ensemble.put('/a', 1)
    twitcher.start()


def use(twitcher: Twitcher, trace: Trace, name: str = 'a.twc', before: str = '') -> None:
    """A file whose only watch prints the word of its helper."""
    twitcher.config(name, USER.format(before, trace))


def test_an_edited_helper_reloads_the_files_that_import_it(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    other = Trace(twitcher.directory / 'other')
    put(twitcher, 'helper.py', "word = 'one'\n")
    use(twitcher, trace)
    twitcher.config('b.twc', watch('/a', other, 'b'))
    start(twitcher, ensemble)
    trace.wait(1)
    put(twitcher, 'helper.py', "word = 'two'\n")
    assert trace.wait(2) == ['one', 'two']
    (twitcher.configs / 'helper.py').write_text("word = 'six'\n")  # in place, of the same size
    assert trace.wait(3) == ['one', 'two', 'six']
    fence(twitcher, ensemble)
    assert other.wait(1) == ['b load 1']
    assert not list(twitcher.configs.rglob('__pycache__'))


def test_also_through_another_helper_and_in_packages(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    put(twitcher, 'helper.py', 'from package.inner import word\n')
    put(twitcher, 'package/__init__.py', '')
    put(twitcher, 'package/inner.py', 'from . import words\nfrom plain.deep import suffix\nword = words.word + suffix\n')
    put(twitcher, 'package/words.py', "word = 'one'\n")
    put(twitcher, 'plain/deep.py', "suffix = '.'\n")
    use(twitcher, trace)
    start(twitcher, ensemble)
    trace.wait(1)
    put(twitcher, 'package/words.py', "word = 'two'\n")
    trace.wait(2)
    put(twitcher, 'plain/deep.py', "suffix = '!'\n")
    assert trace.wait(3) == ['one.', 'two.', 'two!']


def test_the_file_s_own_directory_comes_first(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    put(twitcher, 'helper.py', "word = 'root'\n")
    put(twitcher, 'sub/helper.py', "word = 'sub'\n")
    use(twitcher, trace, 'sub/a.twc')
    start(twitcher, ensemble)
    trace.wait(1)
    (twitcher.configs / 'sub/helper.py').unlink()
    trace.wait(2)
    put(twitcher, 'sub/helper.py', "word = 'again'\n")
    assert trace.wait(3) == ['sub', 'root', 'again']


def test_a_helper_that_comes_later_makes_its_file_load(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    use(twitcher, trace)
    start(twitcher, ensemble)
    twitcher.wait_log(r"a\.twc:1: ModuleNotFoundError: No module named 'helper'; not loaded")
    put(twitcher, 'helper.py', "word = 'one'\n")
    assert trace.wait(1) == ['one']


@pytest.mark.parametrize('text, message', [
    ("word = 'x'\n\nnonsense\n", "a.twc:1: NameError: name 'nonsense' is not defined in {}/helper.py:3"),
    ("word = 'x'\n=\n", 'a.twc:1: SyntaxError: invalid syntax in {}/helper.py:2'),
    ('import below\n', "a.twc:1: ZeroDivisionError: division by zero in {}/below.py:1"),
])
def test_a_fault_of_a_helper_is_its_file_s_and_names_both_lines(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                               text: str, message: str) -> None:
    put(twitcher, 'below.py', '1 / 0\n')
    put(twitcher, 'helper.py', "word = 'good'\n")
    use(twitcher, trace)
    start(twitcher, ensemble)
    trace.wait(1)
    put(twitcher, 'helper.py', text)
    (match,) = twitcher.wait_log(r'ERROR: (.*); its previous version stays in force$')
    assert match[1] == f'{twitcher.configs}/' + message.format(twitcher.configs)
    ensemble.put('/a', 2)
    assert trace.wait(2) == ['good', 'good']


def test_a_helper_that_broke_before_a_restart_leaves_what_was_in_force(twitcher: Twitcher, ensemble: Ensemble,
                                                                       trace: Trace) -> None:
    put(twitcher, 'helper.py', "from package.deep import word\n")
    put(twitcher, 'package/deep.py', "word = 'good'\n")
    use(twitcher, trace)
    start(twitcher, ensemble)
    trace.wait(1)
    put(twitcher, 'helper.py', 'nonsense\n')
    twitcher.wait_log('its previous version stays in force')
    twitcher.stop()
    (twitcher.configs / 'package/deep.py').unlink()
    (twitcher.configs / 'package').rmdir()
    twitcher.start()
    assert trace.wait(2) == ['good', 'good']
    twitcher.wait_log(r'helper.py:1; its version of 20.* is in force')
    put(twitcher, 'helper.py', "word = 'better'\n")
    assert trace.wait(3) == ['good', 'good', 'better']


def test_each_file_has_a_copy_of_its_own(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    put(twitcher, 'helper.py', "word = 'own'\n")
    use(twitcher, trace, 'a.twc', "helper.word += 'A'\n")
    use(twitcher, trace, 'b.twc', "helper.word += 'B'\n")
    start(twitcher, ensemble)
    assert sorted(trace.wait(2)) == ['ownA', 'ownB']


def test_the_same_again_runs_nothing(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    put(twitcher, 'helper.py', "word = 'one'\ndef act():\n    print(word)\n")
    use(twitcher, trace, 'a.twc', "RegisterWatch('/a', helper.act)\nimport functools\n")
    start(twitcher, ensemble)
    trace.wait(1)
    twitcher.wait_ended('a.twc#1')
    hup(twitcher)
    put(twitcher, 'helper.py', "word = 'one'\ndef act():\n    print(word)\n")
    put(twitcher, 'helper.py', "word = 'one'\nmore = 1\ndef act():\n    print(word)\n")
    fence(twitcher, ensemble)
    assert (len(trace.lines()), len(twitcher.started('a.twc#1'))) == (1, 1)
    put(twitcher, 'helper.py', "word = 'one'\ndef act():\n    print('changed')\n")
    assert twitcher.wait_printed('a.twc#1', 2) == ['one', 'changed']


def test_what_a_file_does_to_sys_path_and_sys_modules_is_its_own(twitcher: Twitcher, ensemble: Ensemble, trace: Trace,
                                                                tmp_path: Path) -> None:
    (tmp_path / 'lib').mkdir()
    (tmp_path / 'lib/elsewhere.py').write_text("word = 'elsewhere'\n")
    put(twitcher, 'helper.py', "word = 'one'\n")
    put(twitcher, 'lib/inner.py', "word = 'inner'\n")
    use(twitcher, trace, 'a.twc', textwrap.dedent(f'''
        import os, sys
        sys.path.insert(0, {str(tmp_path / "lib")!r})
        sys.path.append(os.path.join(os.path.dirname(__file__), 'lib'))
        import inner
        def late():
            import elsewhere
            print(elsewhere.word, inner.word)
        RegisterWatch('/a', late, description='late')
    '''))
    twitcher.config('b.twc', textwrap.dedent(f'''
        import sys
        found = [name for name in ('helper', 'inner') if name in sys.modules]
        found += [path for path in sys.path if path.startswith({str(tmp_path)!r})]
        RegisterWatch('/a', Exec(['echo', repr(found)]), description='found')
    '''))
    start(twitcher, ensemble)
    assert twitcher.wait_printed('found', 1) == ['[]']
    assert twitcher.wait_printed('late', 1) == ['elsewhere inner']
    put(twitcher, 'lib/inner.py', "word = 'new'\n")
    fence(twitcher, ensemble)
    ensemble.put('/a', 2)
    assert twitcher.wait_printed('late', 2)[-1] == 'elsewhere new'
    assert not list(twitcher.configs.rglob('__pycache__'))


def test_a_function_finds_the_helpers_when_it_runs(twitcher: Twitcher, ensemble: Ensemble) -> None:
    put(twitcher, 'helper.py', textwrap.dedent('''
        from __future__ import annotations
        import dataclasses, pickle

        @dataclasses.dataclass
        class Point:
            x: int = 1

        def lazily():
            import later
            return later.word

        def act():
            print(lazily())
    '''))
    put(twitcher, 'later.py', "word = 'later'\n")
    ends = outcomes(twitcher, ensemble, '''
        import functools, importlib, helper

        def pickled():
            import pickle
            print(pickle.loads(pickle.dumps(helper.Point(5))))

        def imported_late():
            import later
            print(later.word, importlib.import_module('helper') is helper)

        def through_the_helper():
            print(helper.lazily())

        RegisterWatch('/a', helper.act, description='act')
        RegisterWatch('/a', functools.partial(helper.act), description='partial')
        RegisterWatch('/a', functools.partial(functools.reduce, lambda *_: imported_late(), [1], 0), description='reduced')
    ''')
    assert ends == {'pickled': ('exited 0', ['Point(x=5)']), 'imported_late': ('exited 0', ['later True']),
                    'through_the_helper': ('exited 0', ['later'])}
    assert (twitcher.printed('act'), twitcher.printed('partial')) == (['later'], ['later'])
    assert twitcher.wait_printed('reduced', 1) == ['later True']


def test_names_from_elsewhere_give_way_and_those_of_the_standard_library_do_not(twitcher: Twitcher, ensemble: Ensemble,
                                                                               trace: Trace) -> None:
    for name in ('kazoo', 'daemon', 'colorsys', 'json'):
        put(twitcher, f'{name}.py', "mine = True\n")
    twitcher.config('a.twc', textwrap.dedent(f'''
        import colorsys, daemon, json, kazoo
        mine = [module.__name__ for module in (colorsys, daemon, json, kazoo) if hasattr(module, 'mine')]
        RegisterWatch('/a', Exec(['sh', '-c', 'echo "$*" >> {trace}', 'x', *mine]))
    '''))
    start(twitcher, ensemble)
    assert trace.wait(1) == ['daemon kazoo']
    ensemble.put('/a', 2)
    assert trace.wait(2) == ['daemon kazoo'] * 2
    fence(twitcher, ensemble)


def test_an_endless_helper_is_interrupted_as_its_file(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    put(twitcher, 'helper.py', 'while True:\n    pass\n')
    use(twitcher, trace)
    twitcher.config('b.twc', watch('/a', trace, 'b'))
    start(twitcher, ensemble)
    assert trace.wait(1) == ['b load 1']
    twitcher.wait_log(r'a\.twc:1: still executing after 10 s; .* in .*/helper\.py:[12]; not loaded')
