"""The configuration language, without a daemon: what RegisterWatch and Exec take, and what a file may do."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ensemble import Ensemble
from tests.support.language import AT_ONCE, PATH, load, load_one, refusal
from tests.support.programs import TOP
from twitcher.config.action import Exec
from twitcher.config.language import load_config
from twitcher.config.spec import RunMode, RunOnLoad, WatchSpec
from twitcher.znode import WatchType, znode_fault

# What RegisterWatch takes

def test_a_watch_of_two_arguments_has_the_defaults_of_the_manual() -> None:
    spec = load_one("'/git/head', Exec('true')")
    assert spec == WatchSpec('/git/head', Exec('true'), True, RunOnLoad.ALWAYS, RunMode.QUEUE, None, None, None, '',
                             WatchType.DATA)


def test_the_first_five_arguments_may_be_positional() -> None:
    spec = load_one("'/a', Exec('x'), False, False, DISCARD")
    assert (spec.pipe_stdin, spec.run_on_load, spec.run_mode) == (False, RunOnLoad.NEVER, RunMode.DISCARD)


def test_every_argument_may_be_a_keyword() -> None:
    spec = load_one("watch_type=WATCH_CHILDREN, description='d', timeout=1.5, notify_signal='SIGHUP', gid='nogroup', "
                    "uid='nobody', run_mode=PARALLEL, run_on_load=False, pipe_stdin=False, action=Exec('x'), znode='/a'")
    assert spec.account and (spec.account.uid, spec.account.gid, spec.account.groups) == (65534, 65534, (65534,))
    assert (spec.znode, spec.action, spec.pipe_stdin, spec.run_on_load) == ('/a', Exec('x'), False, RunOnLoad.NEVER)
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


def test_a_value_that_cannot_even_be_checked_is_a_mistake_of_the_file() -> None:
    message = refusal("""
        class Text(str):
            def isprintable(self):
                raise TypeError('not today')
        RegisterWatch('/a', Exec('x'), description=Text('text'))
    """)
    assert message.startswith(f'{PATH}:4: ') and 'not today' in message


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
    ("('git', 'pull')", ('git', 'pull')), ("' '", ('/bin/sh', '-c', ' ')), ("'git pull'", ('/bin/sh', '-c', 'exec git pull')),
    ("['-x']", ('-x',)),
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
    child = subprocess.run([sys.executable, '-c', 'import os, sys\nfrom twitcher.config.action import Exec\n'
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
