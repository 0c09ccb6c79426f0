"""How actions that are Python functions end: what they return and raise, against a running daemon."""

from __future__ import annotations

import pytest

from tests.support.daemon import Twitcher, outcomes
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace


def test_what_a_function_returns_is_its_exit_code(twitcher: Twitcher, ensemble: Ensemble) -> None:
    values = {'None': 0, '0': 0, '1': 1, '7': 7, '255': 255, 'True': 0, 'False': 1}
    text = '\n'.join(f'def f{number}():\n    return {value}' for number, value in enumerate(values))
    found = outcomes(twitcher, ensemble, text + '\n')
    assert {value: found[f'f{number}'] for number, value in enumerate(values)} == {
        value: (f'exited {code}', []) for value, code in values.items()}


def test_a_number_that_is_no_exit_code_becomes_255_and_is_reported(twitcher: Twitcher, ensemble: Ensemble) -> None:
    values = ['256', '300', '-1', '10 ** 30']
    text = '\n'.join(f'def f{number}():\n    return {value}' for number, value in enumerate(values))
    found = outcomes(twitcher, ensemble, text + '\n')
    for number, value in enumerate(values):
        assert found[f'f{number}'] == ('exited 255', [f'exit code {eval(value)}: 255 is used; allowed: 0 to 255'])


def test_a_return_value_that_is_no_exit_code_fails_and_is_shown(twitcher: Twitcher, ensemble: Ensemble) -> None:
    values = ["'text'", 'b"bytes"', '0.0', '[0]', '{}', 'object']
    text = '\n'.join(f'def f{number}():\n    return {value}' for number, value in enumerate(values))
    found = outcomes(twitcher, ensemble, text + '\n')
    for number, value in enumerate(values):
        end, lines = found[f'f{number}']
        assert end == 'exited 1'
        assert len(lines) == 1
        assert repr(eval(value)) in lines[0]
        assert 'allowed' in lines[0]


def test_system_exit_ends_an_action_as_it_ends_any_program(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import sys
        def nothing():
            sys.exit()
        def zero():
            sys.exit(0)
        def number():
            raise SystemExit(9)
        def true():
            sys.exit(True)
        def message():
            print('before')
            sys.exit('no space left')
    ''')
    assert found == {'nothing': ('exited 0', []), 'zero': ('exited 0', []), 'number': ('exited 9', []),
                     'true': ('exited 1', []), 'message': ('exited 1', ['before', 'no space left'])}


RAISERS = '''
    class Odd(BaseException):
        def __str__(self):
            raise ValueError
    def helper():
        return {}['missing']
    def plain():
        helper()
    def base():
        raise Odd
    def interrupt():
        raise KeyboardInterrupt
    def chained():
        try:
            helper()
        except KeyError as error:
            raise RuntimeError('a new one') from error
    def deep():
        deep()
    def compiled():
        compile('1 +', 'text', 'exec')
    def generator():
        raise GeneratorExit('x\\ny')
'''


@pytest.mark.parametrize('function, line, message', [
    ('plain', 7, "KeyError: 'missing'"), ('base', 9, 'Odd'), ('interrupt', 11, 'KeyboardInterrupt'),
    ('chained', 16, 'RuntimeError: a new one'), ('deep', 18, 'RecursionError'), ('compiled', 20, 'SyntaxError'),
    ('generator', 22, 'GeneratorExit: x'),
])
def test_the_traceback_of_an_exception_is_in_the_log_with_file_and_line(
        twitcher: Twitcher, ensemble: Ensemble, function: str, line: int, message: str) -> None:
    path = twitcher.config('a.twc', RAISERS.lstrip('\n') + f"    RegisterWatch('/a', {function}, description='it')\n")
    ensemble.put('/a', '')
    twitcher.start()
    assert twitcher.wait_ended('it') == ['exited 1']
    twitcher.wait_log(rf'it\[\d+\]: .*{message}')
    lines = twitcher.printed('it')
    assert any(f'File "{path}", line {line}, in {function}' in text for text in lines), lines
    assert lines[0] == 'Traceback (most recent call last):'
    assert not any('/twitcher/' in text and 'File' in text for text in lines), lines


def test_a_function_that_closes_its_stdout_or_replaces_it_is_not_blamed_for_that(
        twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import sys
        def closes():
            print('all')
            sys.stdout.close()
            return 3
        def replaces():
            print('all')
            sys.stdout = None
            return 4
    ''')
    assert found == {'closes': ('exited 3', ['all']), 'replaces': ('exited 4', ['all'])}


def test_a_function_may_end_in_any_way_a_process_can(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        import ctypes, os, signal, sys
        def leaves():
            os._exit(4)
        def terminated():
            os.kill(os.getpid(), signal.SIGTERM)
        def broken_pipe():
            reader, writer = os.pipe()
            os.close(reader)
            os.write(writer, b'x')
        def aborts():
            os.abort()
        def real_time():
            os.kill(os.getpid(), 40)
        def closes_everything():
            os.closerange(0, 100)
            return 3
        def forks():
            os.fork()
            print('here')
            return 2
    ''')
    assert found == {
        'leaves': ('exited 4', []), 'terminated': ('was killed by SIGTERM', []), 'broken_pipe': ('was killed by SIGPIPE', []),
        'aborts': ('was killed by SIGABRT', []), 'real_time': ('was killed by signal 40', []),
        'closes_everything': ('exited 3', []), 'forks': ('exited 2', ['here', 'here'])}


def test_files_that_a_failing_function_has_open_are_written_out(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    found = outcomes(twitcher, ensemble, f'''
        def fails():
            file = open('{trace}', 'w')
            file.write('written\\n')
            raise OSError
    ''')
    assert found['fails'][0] == 'exited 1'
    assert trace.lines() == ['written']


def test_register_watch_in_an_action_fails_with_the_reason(twitcher: Twitcher, ensemble: Ensemble) -> None:
    found = outcomes(twitcher, ensemble, '''
        def late():
            RegisterWatch('/b', Exec('true'))
    ''')
    end, lines = found['late']
    assert end == 'exited 1'
    assert 'RegisterWatch' in lines[-1]
    assert 'allowed' in lines[-1]
