"""The configuration language, without a daemon: what a file's text becomes, and what it is told when it is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, List, Type

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.harness import TOP, Ensemble
from twitcher.action import Exec
from twitcher.config import load_config
from twitcher.errors import ConfigError
from twitcher.spec import RunMode, WatchSpec, WatchType, make_spec, znode_fault

PATH = '/etc/twitcher/x.twc'
AT_ONCE = settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))


def load(text: str) -> List[WatchSpec]:
    return load_config(PATH, textwrap.dedent(text).encode())


def load_one(arguments: str) -> WatchSpec:
    """The spec of a file with one RegisterWatch, which is given these arguments."""
    spec, = load(f'RegisterWatch({arguments})')
    return spec


def refusal(source: Any) -> str:
    """The message of the ConfigError that the file is answered with."""
    with pytest.raises(ConfigError) as caught:
        load_config(PATH, source if isinstance(source, bytes) else textwrap.dedent(source).encode(), 0.3)
    return str(caught.value)


def load_elsewhere(text: str, patience: float = 10) -> str:
    """The message of a file with a time limit of 0.3 s; loaded in a process of its own, which is given up after a while."""
    program = f'''if True:
        from twitcher.config import load_config
        from twitcher.errors import ConfigError
        try:
            load_config({PATH!r}, {textwrap.dedent(text).encode()!r}, 0.3)
        except ConfigError as error:
            print(error)
    '''
    return subprocess.run([sys.executable, '-c', program], cwd=TOP, check=True, stdout=subprocess.PIPE, timeout=patience,
                          text=True).stdout.rstrip('\n')


# What RegisterWatch takes

def test_a_watch_of_two_arguments_has_the_defaults_of_the_manual() -> None:
    spec = load_one("'/git/head', Exec('true')")
    assert spec == WatchSpec('/git/head', Exec('true'), True, True, RunMode.QUEUE, None, None, None, '', WatchType.DATA)


def test_the_first_five_arguments_may_be_positional() -> None:
    spec = load_one("'/a', Exec('x'), False, False, DISCARD")
    assert (spec.pipe_stdin, spec.run_on_load, spec.run_mode) == (False, False, RunMode.DISCARD)


def test_every_argument_may_be_a_keyword() -> None:
    spec = load_one("watch_type=WATCH_CHILDREN, description='d', timeout=1.5, notify_signal='SIGHUP', gid='nogroup', "
                    "uid='nobody', run_mode=PARALLEL, run_on_load=False, pipe_stdin=False, action=Exec('x'), znode='/a'")
    assert spec.account and (spec.account.uid, spec.account.gid, spec.account.groups) == (65534, 65534, (65534,))
    assert (spec.znode, spec.action, spec.pipe_stdin, spec.run_on_load) == ('/a', Exec('x'), False, False)
    assert (spec.run_mode, spec.notify_signal, spec.timeout) == (RunMode.PARALLEL, signal.SIGHUP, 1.5)
    assert (spec.description, spec.watch_type) == ('d', WatchType.CHILDREN)


@pytest.mark.parametrize(('arguments', 'field', 'value'), [
    ('notify_signal=signal.SIGUSR1', 'notify_signal', signal.SIGUSR1), ('notify_signal=10', 'notify_signal', 10),
    ("notify_signal='SIGUSR1'", 'notify_signal', signal.SIGUSR1), ('notify_signal=None', 'notify_signal', None),
    ('timeout=3', 'timeout', 3.0), ('timeout=0.001', 'timeout', 0.001), ('timeout=None', 'timeout', None),
    ("description='\N{SNOWMAN} pull'", 'description', '\N{SNOWMAN} pull'), ('run_mode=QUEUE', 'run_mode', RunMode.QUEUE),
    ('watch_type=WATCH_DATA', 'watch_type', WatchType.DATA), ('pipe_stdin=True', 'pipe_stdin', True),
])
def test_an_allowed_value_is_taken(arguments: str, field: str, value: object) -> None:
    spec, = load(f"import signal\nRegisterWatch('/a', Exec('x'), {arguments})")
    assert getattr(spec, field) == value


@pytest.mark.parametrize(('who', 'ids'), [
    ("uid='nobody'", (65534, 65534)), ('uid=65534', (65534, 65534)), ("uid='65534'", (65534, 65534)),
    ("uid='daemon'", (1, 1)), ("uid='daemon', gid='nogroup'", (1, 65534)), ("uid=1, gid='0'", (1, 0)),
    ('uid=54321, gid=54322', (54321, 54322)), ("gid='nogroup'", (0, 65534)),
])
def test_users_and_groups_go_by_name_number_and_digits(who: str, ids: object) -> None:
    account = load_one(f"'/a', Exec('x'), {who}").account
    assert account and (account.uid, account.gid) == ids
    assert account.gid in account.groups and (account.gid == 0 or 0 not in account.groups)


@pytest.mark.parametrize(('argument', 'values', 'allowed'), [
    ('znode', ["''", "'git'", "'/a/'", "'//'", "'/a//b'", "'/a/../b'", "'/.'", r"'/\0'", r"'/a\n'", r"'/\x7f'", 'None', '3',
               "b'/a'", "['/a']"], 'an absolute path'),
    ('action', ['None', "'git pull'", "['git']", '3'], 'Exec'),
    ('pipe_stdin', ['None', '0', '1', "'yes'", 'QUEUE'], 'True or False'),
    ('run_on_load', ['None', '0', '1', "'no'"], 'True or False'),
    ('run_mode', ['None', "'QUEUE'", 'True', '1', 'WATCH_DATA'], 'QUEUE, DISCARD, PARALLEL'),
    ('watch_type', ['None', "'WATCH_DATA'", '1', 'QUEUE'], 'WATCH_DATA, WATCH_CHILDREN'),
    ('uid', ["'no such user'", "''", r"'a\0b'", '-1', "'-1'", 'True', '1.0', '2 ** 32 - 1', "b'root'", "'9' * 5000",
             '3000000000'], ''),
    ('gid', ["'no such group'", "''", '-1', 'False', '2 ** 32', '[]', "'9' * 5000"], ''),
    ('notify_signal', ["'HANGUP'", "''", '0', '-1', 'True', '1000', "'15 '", '[]'], "'SIGHUP'"),
    ('timeout', ['0', '-1', 'True', "'5'", "float('nan')", "float('inf')", '[]', '10 ** 400'], 'seconds greater than 0'),
    ('description', ["''", "' '", r"'a\nb'", r"'\x1b'", '3', "b'x'", "'x' * 201"], 'one printable line'),
])
def test_a_wrong_value_is_told_with_file_line_argument_value_and_what_is_allowed(argument: str, values: List[str],
                                                                                 allowed: str) -> None:
    good = {'znode': "'/a'", 'action': "Exec('x')"}
    for value in values:
        given_arguments = ', '.join(f'{name}={text}' for name, text in {**good, argument: value}.items())
        message = refusal(f'\n\nRegisterWatch({given_arguments})\n')
        assert message.startswith(f'{PATH}:3: '), message
        shown = repr(eval(value, {'QUEUE': RunMode.QUEUE, 'WATCH_DATA': WatchType.DATA}))
        assert f'{argument}={shown}' in message
        assert 'allowed: ' in message and allowed in message


@pytest.mark.parametrize(('arguments', 'told'), [
    ("'/a', Exec('x'), run_onload='maybe'", ["run_onload='maybe'", 'allowed', 'run_on_load', 'watch_type']),
    ("'/a', Exec('x'), True, True, QUEUE, 'nobody'", ['RegisterWatch', '6']), ("'/a'", ['action']), ('', ['znode', 'action']),
    ("'/a', Exec('x'), znode='/b'", ['znode']),
])
def test_a_call_that_does_not_fit_is_told_what_does(arguments: str, told: List[str]) -> None:
    message = refusal(f'\nRegisterWatch({arguments})')
    assert message.startswith(f'{PATH}:2: ')
    assert [part for part in told if part not in message] == []
    assert 'make_spec' not in message


def test_a_message_stays_one_line_whatever_the_value_looks_like() -> None:
    message = refusal("""
        class Table:
            def __repr__(self):
                return 'a\\nb\\r\\n'
        RegisterWatch(Table(), Exec('x'))
    """)
    assert len(message.splitlines()) == 1


@AT_ONCE
@given(st.text().map(lambda text: '/' + text) | st.text())
def test_any_string_is_a_znode_or_an_error_that_shows_it(znode: str) -> None:
    if znode_fault(znode) is None:
        assert load_one(f"{znode!r}, Exec('x')").znode == znode
    else:
        assert f'znode={znode!r}' in refusal(f"RegisterWatch({znode!r}, Exec('x'))")


def test_a_znode_is_refused_exactly_if_zookeeper_refuses_it(ensemble: Ensemble) -> None:
    ours = {}
    for number in [*range(1, 0xa2), 0x2028, 0x3042, 0xd7ff, 0xe000, 0xf8ff, 0xf900, 0xffef, 0xfff0, 0xffff, 0x10000, 0x1f600,
                   0x10ffff]:
        if chr(number) not in '/.':
            ours[f'/{chr(number)}x'] = znode_fault(f'/{chr(number)}x') is None
    results = {znode: ensemble.client.create_async(znode) for znode in ours}
    theirs = {}
    for znode, result in results.items():
        result.wait(30)
        theirs[znode] = result.successful()
    assert [(znode, ours[znode]) for znode in ours if ours[znode] != theirs[znode]] == []


# Exec

@pytest.mark.parametrize(('command', 'argv'), [
    ("'git pull && make'", ('/bin/sh', '-c', 'git pull && make')), ("['git', 'pull', '']", ('git', 'pull', '')),
    ("('git', 'pull')", ('git', 'pull')), ("' '", ('/bin/sh', '-c', ' ')), ("['-x']", ('-x',)),
])
def test_exec_takes_a_shell_command_or_an_exact_list(command: str, argv: object) -> None:
    action = load_one(f"'/a', Exec({command})").action
    assert isinstance(action, Exec)
    assert action.argv == argv


@pytest.mark.parametrize('command', ["''", '[]', "['']", 'None', '3', "b'x'", "['x', 3]", "['x', None]", r"'a\0b'",
                                     r"['a', '\0']", "{'x'}", "iter(['x'])"])
def test_exec_refuses_anything_else(command: str) -> None:
    message = refusal(f"\ncommand = {command}\nRegisterWatch('/a', Exec(command))")
    assert message.startswith(f'{PATH}:3: Exec(') and 'allowed: a shell command' in message


@pytest.mark.parametrize('arguments', ['', "'x', 'y'", "'x', shell=True"])
def test_exec_takes_one_argument(arguments: str) -> None:
    assert refusal(f'\nExec({arguments})').startswith(f'{PATH}:2: ')


def test_exec_called_while_the_file_is_loaded_is_an_error_and_replaces_nothing() -> None:
    message = refusal("\nExec('exit 3')()")
    assert message.startswith(f'{PATH}:2: ') and 'loaded' in message


def test_exec_may_be_called_inside_a_function(tmp_path: Path) -> None:
    spec, = load(f"def action():\n    Exec('echo called > {tmp_path}/out')()\nRegisterWatch('/a', action)")
    child = subprocess.run([sys.executable, '-c', 'import os, sys\nfrom twitcher.action import Exec\n'
                            f'action = Exec("echo called > {tmp_path}/out")\nif os.fork() == 0:\n    action()\nos.wait()'],
                           cwd=TOP, timeout=30)
    assert child.returncode == 0 and (tmp_path / 'out').read_text() == 'called\n'
    assert callable(spec.action) and not isinstance(spec.action, Exec)


# What a file may do

def test_functions_see_each_other_and_the_globals_of_their_file() -> None:
    spec, = load("""
        def action():
            return helper() + NUMBER + later()
        def helper():
            return len([NUMBER for _ in range(3) if NUMBER])
        RegisterWatch('/a', action)
        NUMBER = 4
        later = lambda: NUMBER
    """)
    assert spec.action() == 11


def test_two_files_share_no_names() -> None:
    load('SECRET = 1')
    assert refusal('print(SECRET)').startswith(f"{PATH}:1: NameError: name 'SECRET'")


def test_watches_can_be_registered_in_loops_and_functions_and_keep_their_order() -> None:
    specs = load("""
        import os.path
        def both(name):
            RegisterWatch(os.path.join('/', name), lambda: name)
            RegisterWatch('/' + name, Exec(['echo', name]), watch_type=WATCH_CHILDREN)
        for number in range(50):
            both(f'n{number}')
    """)
    assert [spec.znode for spec in specs] == [f'/n{number // 2}' for number in range(100)]
    assert [spec.action() for spec in specs[::2]] == [f'n{number}' for number in range(50)]


def test_any_callable_is_an_action() -> None:
    specs = load("""
        import functools
        class Pull:
            def __call__(self): return 1
            def method(self): return 2
        for action in (Pull(), Pull().method, functools.partial(max, 3, 2), lambda: 4):
            RegisterWatch('/a', action)
    """)
    assert [spec.action() for spec in specs] == [1, 2, 3, 4]


@pytest.mark.parametrize('source', [b'', b'\n\n', b'# nothing', b'\xef\xbb\xbfNUMBER = 1\r\n',
                                    b'# coding: latin-1\nname = "\xe9"',
                                    b'from __future__ import annotations\ndef f(x: nothing) -> int: ...'])
def test_a_file_may_register_nothing(source: bytes) -> None:
    assert load_config(PATH, source) == []


def test_an_action_cannot_register_watches() -> None:
    spec, = load("RegisterWatch('/a', lambda: RegisterWatch('/b', Exec('x')))")
    with pytest.raises(Exception, match='while the file is being loaded'):
        spec.action()


# Files that do not load

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
])
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
    'while True:\n    try: pass\n    except: pass\n    finally: pass',
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


# When two versions of a watch are the same

MAKER = 'def make(x, n):\n    def action():\n        return x, n\n    return action\n'


@pytest.mark.parametrize('source', [
    "RegisterWatch('/a', Exec('x'), uid='nobody', timeout=3, notify_signal=15)", "RegisterWatch('/a', Exec(['x', 'y']))",
    "RegisterWatch('/a', lambda: 1)",
    "def f(x=[1, {2: 3}], *, k={'a'}):\n    'doc'\n    return x in {1, 2}\nRegisterWatch('/a', f)",
    MAKER + "RegisterWatch('/a', make([1], 'n'))", MAKER + "RegisterWatch('/a', make(make(1, 2), make(lambda: 3, None)))",
    "import functools\nRegisterWatch('/a', functools.partial(lambda x, y: x, 1, y=lambda: 2))",
    "def outer():\n    def f(): return f\n    return f\nRegisterWatch('/a', outer())",
    "def outer():\n    if 0: late = 1\n    def f(): return late\n    return f\nRegisterWatch('/a', outer())",
    "def f():\n    class A:\n        def m(self): return [x for x in (1, 2)]\n    return A\nRegisterWatch('/a', f)",
    "def f():\n    class A: n = 4\n    return A\nRegisterWatch('/a', f)",
    "import os\nRegisterWatch('/a', os.getpid)", "x = []\nx.append(x)\nRegisterWatch('/a', lambda x=x: x)",
    "import functools\ndef d(f):\n    @functools.wraps(f)\n    def g(): return f()\n    return g\n@d\n@d\ndef f(): pass\n"
    "RegisterWatch('/a', f)",
])
def test_a_file_that_is_executed_again_registers_the_same(source: str) -> None:
    before, after = load(source)[0], load('\n\n' + source)[0]
    assert before.is_same(after) and after.is_same(before)


@pytest.mark.parametrize(('before', 'after'), [
    ("Exec('x')", "Exec('y')"), ("Exec('x')", "Exec(['x'])"), ("Exec('x')", "lambda: Exec('x')()"), ('lambda: 1', 'lambda: 2'),
    ('lambda: 1', 'lambda: 1.0'), ('lambda: 1', 'lambda: True'), ('lambda: abs(1)', 'lambda: int(1)'),
    ('lambda x=1: x', 'lambda x=2: x'), ('lambda x=1: x', 'lambda x=True: x'), ('lambda x=[1]: x', 'lambda x=[1, 2]: x'),
    ('lambda *, k=1: k', 'lambda *, k=2: k'), ('lambda x=1: x', 'lambda y=1: y'), ('make(1, 2)', 'make(2, 1)'),
    ('make(lambda: 1, 2)', 'make(lambda: 2, 2)'), ('partial(max, 1, 2)', 'partial(max, 2, 1)'),
    ('partial(max, 1, default=1)', 'partial(max, 1, default=2)'), ('partial(max, 1, 2)', 'partial(min, 1, 2)'),
    ("lambda: (lambda: 'a')", "lambda: (lambda: 'b')"), ("Exec('x'), False", "Exec('x'), True"), ('print', 'abs'),
    ("Exec('x'), run_mode=QUEUE", "Exec('x'), run_mode=DISCARD"), ("Exec('x')", "Exec('x'), uid='nobody'"),
    ("Exec('x'), timeout=1", "Exec('x'), timeout=2"), ("Exec('x')", "Exec('x'), description='d'"),
    ("Exec('x')", "Exec('x'), watch_type=WATCH_CHILDREN"), ("Exec('x')", "Exec('x'), notify_signal=1"),
])
def test_what_differs_in_code_default_closure_or_argument_is_another(before: str, after: str) -> None:
    one, other = (load(f"from functools import partial\n{MAKER}RegisterWatch('/a', {text})")[0] for text in (before, after))
    assert not one.is_same(other) and not other.is_same(one)
    assert one.is_same(one)


@pytest.mark.parametrize('error', [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_an_action_that_refuses_to_be_compared_is_another(error: Type[BaseException]) -> None:
    class Odd:
        def __call__(self) -> None: ...

        def __eq__(self, other: object) -> bool:
            raise error

    def is_same() -> bool:
        try:
            return make_spec('/a', Odd()).is_same(make_spec('/a', Odd()))
        except error as raised:
            raise AssertionError(f'{raised!r} would end the daemon') from raised

    assert not is_same()


@pytest.mark.parametrize('value', ['3', '3000', "'x'", '(1, 2)', 'lambda self: 3'])
def test_what_differs_inside_a_class_of_a_function_makes_it_another(value: str) -> None:
    one, other = (load(f"def f():\n class A:\n  a = {text}\n return A\nRegisterWatch('/a', f)")[0] for text in (value, 2))
    assert not one.is_same(other) and one.is_same(one)


def test_moving_a_statement_out_of_a_try_makes_another_function() -> None:
    inside = load("def f():\n try:\n  a()\n  b()\n except E: pass\nRegisterWatch('/a', f)")[0]
    behind = load("def f():\n try:\n  a()\n except E: pass\n else: b()\nRegisterWatch('/a', f)")[0]
    assert not inside.is_same(behind)


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
