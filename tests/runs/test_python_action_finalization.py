"""A function ends as a Python program does: nothing unwritten is lost, and what is to be called at exit is called."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from tests.support.daemon import Twitcher, outcomes
from tests.support.ensemble import Ensemble


def test_files_in_globals_cycles_and_containers_are_written(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    found = outcomes(twitcher, ensemble, f'''
        import gzip, zipfile
        kept, files = None, []
        def f():
            global kept
            kept = open('{tmp_path}/global', 'w')
            kept.write('text')
            files.append(open('{tmp_path}/list', 'w'))
            files[0].write('text')
            class Node: pass
            node = Node()
            node.me, node.file = node, open('{tmp_path}/cycle', 'w')
            node.file.write('text')
            files.append(gzip.open('{tmp_path}/gzip', 'wt'))
            files[1].write('text')
        def g():
            global archive
            archive = zipfile.ZipFile('{tmp_path}/zip', 'w')
            archive.writestr('name', 'text')
    ''')
    assert found['f'] == ('exited 0', []) and found['g'] == ('exited 0', [])
    assert [(tmp_path / name).read_text() for name in ('global', 'list', 'cycle')] == ['text'] * 3
    assert gzip.decompress((tmp_path / 'gzip').read_bytes()) == b'text'
    assert zipfile.ZipFile(tmp_path / 'zip').read('name') == b'text'


def test_atexit_threads_and_temporary_directories_end_as_in_a_program(twitcher: Twitcher, ensemble: Ensemble,
                                                                      tmp_path: Path) -> None:
    found = outcomes(twitcher, ensemble, f'''
        import atexit, tempfile, threading, time
        atexit.register(print, 'at exit, of the file')
        def f():
            atexit.register(print, 'at exit, of the function')
            f.directory = tempfile.TemporaryDirectory(dir='{tmp_path}', prefix='temporary')
            def work():
                time.sleep(0.3)
                print('the thread is done')
            threading.Thread(target=work).start()
            print('returned')
    ''')
    assert found['f'] == ('exited 0', ['returned', 'the thread is done', 'at exit, of the function', 'at exit, of the file'])
    assert list(tmp_path.glob('temporary*')) == []


def test_a_failing_function_is_finalized_too(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import atexit, sys
        def f():
            atexit.register(print, 'at exit')
            sys.exit(3)
    ''')
    assert found == {'f': ('exited 3', ['at exit'])}


def test_pools_pickles_and_dataclasses_find_the_file(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        from __future__ import annotations
        import dataclasses, multiprocessing, pickle
        class Tools:
            @staticmethod
            def double(number):
                return 2 * number
        def f():
            with multiprocessing.get_context('fork').Pool(2) as pool:
                print(pool.map(Tools.double, [1, 2]))
            print(type(pickle.loads(pickle.dumps(Tools()))) is Tools)
            @dataclasses.dataclass
            class Inner:
                number: int
            print(Inner(3).number)
    ''')
    assert found == {'f': ('exited 0', ['[2, 4]', 'True', '3'])}


def test_logging_set_up_at_the_top_of_a_file_works_in_its_functions(twitcher: Twitcher, ensemble: Ensemble,
                                                                    tmp_path: Path) -> None:
    twitcher.config('l.twc', f'''
        import logging, logging.handlers
        logging.basicConfig(format='%(levelname)s of mine: %(message)s', level=logging.DEBUG)
        log = logging.getLogger('mine')
        log.addHandler(logging.FileHandler('{tmp_path}/own'))
        log.info('at load')
        RegisterWatch('/l', lambda: log.debug('in the function'), description='l')
    ''')
    twitcher.config('m.twc', '''
        import logging
        def m():
            logging.getLogger('mine').info('not shown')
            logging.getLogger('mine').warning('plain')
        RegisterWatch('/l', m, description='m')
    ''')
    ensemble.put('/l', '')
    twitcher.start()
    assert twitcher.wait_printed('l', 1) == ['DEBUG of mine: in the function']
    assert twitcher.wait_ended('m') == ['exited 0']
    assert twitcher.wait_printed('m', 1) == ['plain']
    twitcher.wait_log('l.twc printed: INFO of mine: at load')
    assert (tmp_path / 'own').read_text() == 'at load\nin the function\n'


@pytest.mark.parametrize('action, reason', [
    ('async def f(): pass', 'async'), ('def f(): yield', 'generator'), ('def f(contents): pass', 'contents'),
    ('def f(*, key): pass', 'key'), ('class C:\n    def __call__(self, x): pass\nf = C()', 'x'),
    ('import functools\ndef g(a, b): pass\nf = functools.partial(g, 1)', 'b'),
])
def test_a_function_that_cannot_be_called_without_arguments_is_an_error_at_load(twitcher: Twitcher, action: str,
                                                                                reason: str) -> None:
    twitcher.config('a.twc', f"{action}\nRegisterWatch('/a', f)")
    twitcher.start(wait=False)
    twitcher.wait_log(rf'ERROR: \S+a.twc:\d+: action=.*{reason}.*allowed: .*; not loaded')


def test_an_argument_with_a_default_or_a_value_is_none(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('a.twc', '''
        import functools
        def f(a, b=2, *rest, c=3, **more):
            print(a, b, c)
        RegisterWatch('/a', functools.partial(f, 1), description='a')
    ''')
    ensemble.put('/a', '')
    twitcher.start()
    assert twitcher.wait_printed('a', 1) == ['1 2 3']
