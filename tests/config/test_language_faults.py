"""Files that do not load, without a daemon: each is answered with one line that says where and why."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.language import AT_ONCE, PATH, load_elsewhere, load_one, refusal
from twitcher.config.language import load_config
from twitcher.config.spec import WatchSpec
from twitcher.errors import ConfigError


@pytest.mark.parametrize(('source', 'line', 'reason'), [
    ('\nif True\n', 2, 'SyntaxError'), ('if True:\nx', 2, 'IndentationError'), ('x = (\n', 1, 'SyntaxError'),
    ('\n\n1 / 0', 3, 'ZeroDivisionError: division by zero'), ('\nraise SystemExit(0)', 2, 'SystemExit: 0'),
    ('import sys\nsys.exit()', 2, 'SystemExit'), ('\nraise KeyboardInterrupt', 2, 'KeyboardInterrupt'),
    ('raise GeneratorExit', 1, 'GeneratorExit'), ('class E(BaseException): pass\nraise E("\\na\\n\\nb")', 2, 'E: a b'),
    ('def f():\n    f()\nf()', 2, 'RecursionError'), ('import no_such_module', 1, 'ModuleNotFoundError'),
    ('def f():\n    return int("x")\n\nf()', 2, 'ValueError'), ('exec("(")', 1, 'SyntaxError'), ('return', 1, 'SyntaxError'),
    (b'a = 1\nb = "\xff"', 2, 'SyntaxError'), ('(' * 5000, 1, 'SyntaxError'), ('Exec = None\nExec("x")', 2, 'TypeError'),
    ("RegisterWatch('/good', Exec('x'))\nRegisterWatch('bad', Exec('x'))", 2, "znode='bad'"), ('\na b c\0', None, 'null'),
    ('\nx = 1\0', None, 'null'), (b'# coding: nonsense', None, 'nonsense'), ('a = 1'.encode('utf-16'), None, ''),
    ('-' * 100_000 + '1', None, ''), ('1' + '+1' * 50_000 + '+x', None, ''), ('f' + '()' * 50_000, None, ''),
    (b'\x7fELF\0\1\2', None, ''),
    ('x = ' + '[' * 3000, 1, ''), ('x = "' + 'a' * 100_000, 1, 'SyntaxError'), ('raise', 1, 'RuntimeError'),
], ids=lambda value: repr(value)[:40])
def test_a_file_that_does_not_load_is_one_line_with_file_line_and_reason(source: Any, line: Any, reason: str) -> None:
    message = refusal(source)
    assert message.startswith(f'{PATH}:{line}: ' if line else PATH)
    assert len(message.splitlines()) == 1 and reason in message


@pytest.mark.parametrize('how', ['raise SystemExit', 'raise KeyboardInterrupt', 'return 3', '1 / 0', 'while True: pass'])
def test_an_exception_that_cannot_print_itself_is_a_mistake_of_its_file(how: str) -> None:
    assert load_elsewhere(f"""
        class Odd(Exception):
            def __str__(self):
                {how}
        raise Odd
    """).startswith(f'{PATH}:5: ')


@pytest.mark.parametrize('source', [
    'while True: pass',
    'import time\ntime.sleep(1000)',
    'while True:\n    try:\n        while True: pass\n    except Exception: pass',
    'while True:\n    try:\n        while True: pass\n    except BaseException: pass',
    # Python 3.10 looks at signals in no loop that has nothing but a try statement and calls nothing.
    *(['while True:\n    try: pass\n    except: pass\n    finally: pass'] if sys.version_info[:2] != (3, 10) else []),
    'import time\nwhile True:\n    try: time.sleep(1)\n    except: pass',
    'def f():\n    while True:\n        try: g()\n        except: pass\ndef g():\n    while True: pass\nf()',
    'import time\nwhile True:\n  try:\n    while True:\n      try: time.sleep(1)\n      except: pass\n  except: pass',
    'import contextlib\nwhile True:\n    with contextlib.suppress(BaseException):\n        while True: pass',
    'import threading\nthreading.Event().wait()', 'exec("while True: pass")', 'import re\nre.match("(a+)+$", "a" * 99 + "b")',
    '[number for number in iter(int, 1) if number]',
])
def test_a_file_that_never_returns_is_stopped_whatever_it_catches(source: str) -> None:
    message = load_elsewhere(source)
    assert message.startswith(f'{PATH}:') and '0.3 s' in message


def test_what_was_in_force_before_a_file_that_never_returns_is_so_again() -> None:
    handler, tracer = signal.getsignal(signal.SIGALRM), sys.gettrace()
    assert '0.3 s' in refusal('while True: pass')
    assert (signal.getsignal(signal.SIGALRM), sys.gettrace()) == (handler, tracer)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert load_one("'/a', Exec('x')").znode == '/a'


WORDS = st.sampled_from(['RegisterWatch', 'Exec', '(', ')', "'/a'", ',', '=', 'QUEUE', 'run_mode', '\n', '    ', 'def f():',
                         'f', 'lambda:', 'for x in ', '[', ']', 'timeout', '1', '"', "'", 'raise ', 'None', ':', '\\', '#'])
SOURCES = (st.binary() | st.text().map(lambda text: text.encode('utf-8', 'surrogatepass'))
           | st.lists(WORDS).map(lambda words: ''.join(words).encode()))


@AT_ONCE
@pytest.mark.filterwarnings('ignore')
@given(SOURCES)
def test_any_bytes_are_a_list_of_watches_or_one_line_about_the_file(source: bytes) -> None:
    try:
        specs = load_config(PATH, source, 5)
    except ConfigError as error:
        assert str(error).startswith(PATH) and len(str(error).splitlines()) == 1
    else:
        assert all(isinstance(spec, WatchSpec) for spec in specs)
