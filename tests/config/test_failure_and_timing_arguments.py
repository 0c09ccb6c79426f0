"""The arguments of RegisterWatch that say what follows a failure, when a run starts, and what its process gets."""

from __future__ import annotations

import math
from typing import List

import pytest

from tests.support.language import PATH, load, load_one, refusal
from twitcher.config.arguments import LANGUAGE
from twitcher.config.spec import (
    DEFAULT_FAILURE,
    DEFAULT_PROCESS,
    DEFAULT_TIMING,
    FailurePolicy,
    RunMode,
    RunOnLoad,
    Then,
    WatchSpec,
)

NAMES = dict(LANGUAGE)


def spec_of(arguments: str) -> WatchSpec:
    return load_one(f"'/a', Exec('x'), {arguments}")


def test_a_watch_that_uses_none_of_them_shares_the_defaults_with_all_others() -> None:
    said = spec_of('on_failure=KEEP, ok_codes=[0], settle=0.0, grace=5, cwd="/", lock=None')
    for spec in (load_one("'/a', Exec('x')"), said):
        assert spec.failure is DEFAULT_FAILURE and spec.timing is DEFAULT_TIMING and spec.process is DEFAULT_PROCESS


@pytest.mark.parametrize(('text', 'policy'), [
    ('KEEP', FailurePolicy(Then.KEEP)), ('STOP', FailurePolicy(Then.STOP)), ('RETRY', FailurePolicy(Then.KEEP, 3)),
    ('RETRY()', FailurePolicy(Then.KEEP, 3, 1.0, 2.0, 300.0)), ('RETRY(5)', FailurePolicy(Then.KEEP, 5)),
    ('RETRY(times=FOREVER, delay=0, backoff=1, max_delay=0, then=STOP)', FailurePolicy(Then.STOP, math.inf, 0.0, 1.0, 0.0)),
    ('RETRY(times=10 ** 400)', FailurePolicy(Then.KEEP, math.inf)),
])
def test_on_failure_is_keep_or_stop_after_any_number_of_retries(text: str, policy: FailurePolicy) -> None:
    assert spec_of(f'on_failure={text}').failure == policy


@pytest.mark.parametrize(('value', 'expected'), [
    ('True', RunOnLoad.ALWAYS), ('False', RunOnLoad.NEVER), ('CHANGED', RunOnLoad.CHANGED),
])
def test_run_on_load_is_true_false_or_changed(value: str, expected: RunOnLoad) -> None:
    assert spec_of(f'run_on_load={value}').run_on_load is expected


def test_restart_neither_overlaps_nor_drops_updates() -> None:
    mode = spec_of('run_mode=RESTART').run_mode
    assert mode.restarts and not mode.overlaps and not mode.drops_updates
    assert [other for other in RunMode if other.restarts] == [mode]


@pytest.mark.parametrize(('arguments', 'group', 'field', 'value'), [
    ('ok_codes=(2, 0, 2)', 'failure', 'ok_codes', (0, 2)), ('ok_codes={255}', 'failure', 'ok_codes', (255,)),
    ('settle=0.5', 'timing', 'settle', 0.5), ('splay=300', 'timing', 'splay', 300.0), ('repeat=60', 'timing', 'repeat', 60.0),
    ('repeat=None', 'timing', 'repeat', None), ('run_on_delete=True', 'timing', 'run_on_delete', True),
    ("lock='deploy \N{SNOWMAN}'", 'timing', 'lock', 'deploy \N{SNOWMAN}'), ('grace=0', 'process', 'grace', 0.0),
    ("cwd='/no such'", 'process', 'cwd', '/no such'), ('umask=0o077', 'process', 'umask', 0o077),
    ('umask=0', 'process', 'umask', 0), ('environment={}', 'process', 'environment', ()),
    (r"environment={'Z': '', 'A b': '=\n'}", 'process', 'environment', (('A b', '=\n'), ('Z', ''))),
])
def test_an_allowed_value_is_taken(arguments: str, group: str, field: str, value: object) -> None:
    assert getattr(getattr(spec_of(arguments), group), field) == value


NO_SECONDS = ['-1', 'True', "'5'", "float('nan')", "float('inf')", '[]', '10 ** 400', 'FOREVER']


@pytest.mark.parametrize(('argument', 'values', 'allowed'), [
    ('on_failure', ['None', 'True', "'RETRY'", '3', 'FOREVER', 'QUEUE'], 'KEEP, STOP, RETRY'),
    ('ok_codes', ['0', '()', '[]', 'None', '(0, 256)', '(-15,)', '(True,)', '(0.0,)', "('0',)", "'0'", '{0: 1}'],
     'exit codes from 0 to 255'),
    ('run_on_load', ['None', '0', '1', "'CHANGED'", 'KEEP'], 'True or False, or CHANGED'),
    ('grace', ['None', *NO_SECONDS], 'seconds from 0 to 1e+09'), ('settle', ['None', *NO_SECONDS], 'seconds from 0 to 1e+09'),
    ('splay', ['None', *NO_SECONDS], 'seconds from 0 to 1e+09'), ('repeat', ['0', *NO_SECONDS], 'seconds greater than 0'),
    ('run_on_delete', ['None', '0', "'yes'"], 'True or False'),
    ('lock', ["''", "' '", r"'a\nb'", '3', "b'x'", "'x' * 201"], 'one printable line'),
    ('environment', ['3', "'A=B'", "[('A', 'B')]", "{'': 'x'}", "{'A=B': 'x'}", r"{'A\0': 'x'}", r"{'A': 'x\0'}", "{'A': 1}",
                     "{1: 'x'}", "{b'A': b'x'}", "{'A': None}", "{'TWITCHER_ZNODE': '/b'}", r"{'A': '\ud800'}"],
     'a dict of strings'),
    ('cwd', ['None', "''", "'tmp'", "'~'", r"'/\0'", "b'/'", '3', "'/' + 'x' * 4095", r"'/\ud800'"], 'absolute path'),
    ('umask', ['-1', '0o1000', 'True', "'022'", '0.0'], 'from 0 to 0o777'),
])
def test_a_wrong_value_is_told_with_argument_value_and_what_is_allowed(argument: str, values: List[str], allowed: str) -> None:
    for value in values:
        message = refusal(f"\n\nRegisterWatch('/a', Exec('x'), {argument}={value})\n")
        assert message.startswith(f'{PATH}:3: {argument}={eval(value, dict(NAMES))!r}: allowed: '), message
        assert allowed in message


@pytest.mark.parametrize(('arguments', 'told'), [
    ('times=0', 'times=0: allowed: a whole number'), ('times=2.0', 'times=2.0: allowed'), ('times=True', 'times=True: allowed'),
    ("times=float('nan')", 'times=nan: allowed'), ("times=None", 'times=None: allowed'), ('delay=-1', 'delay=-1: allowed'),
    ("delay='1'", "delay='1': allowed"), ('backoff=0.5', 'backoff=0.5: allowed: a number from 1'),
    ("backoff=float('nan')", 'backoff=nan: allowed'),
    ('max_delay=0.5', 'max_delay=0.5: allowed: a number of seconds from 1 to'),
    ('delay=600', 'max_delay=300.0: allowed: a number of seconds from 600 to'), ('then=RETRY', 'allowed: KEEP, STOP'),
    ('then=True', 'then=True: allowed: KEEP, STOP'), ('tries=3', 'tries'),
])
def test_a_wrong_value_of_retry_is_told_where_it_stands(arguments: str, told: str) -> None:
    message = refusal(f"\nRegisterWatch('/a', Exec('x'), on_failure=RETRY({arguments}))")
    assert message.startswith(f'{PATH}:2: ') and 'RETRY' in message and told in message


def test_only_the_variable_that_is_wrong_is_shown_for_the_others_may_be_secrets() -> None:
    message = refusal("RegisterWatch('/a', Exec('x'), environment={'PASSWORD': 'hunter2', 'A=': 'b'})")
    assert 'hunter2' not in message and "environment={'A=': 'b'}" in message


@pytest.mark.parametrize('value', ['RETRY', 'RETRY(1)', 'RETRY(FOREVER, then=STOP)'])
def test_retries_do_not_go_with_runs_that_overlap(value: str) -> None:
    message = refusal(f"RegisterWatch('/a', Exec('x'), run_mode=PARALLEL, on_failure={value})")
    assert 'on_failure=' in message and 'run_mode=PARALLEL' in message and 'allowed: KEEP, STOP' in message
    assert spec_of('run_mode=PARALLEL, on_failure=STOP').failure.then is Then.STOP


def test_none_of_them_is_positional() -> None:
    assert '6 were given by position' in refusal("RegisterWatch('/a', Exec('x'), True, True, QUEUE, KEEP)")


@pytest.mark.parametrize('argument', [
    'on_failure=STOP', 'on_failure=RETRY', 'on_failure=RETRY(4)', 'ok_codes=(0, 1)', 'run_on_load=CHANGED', 'run_mode=RESTART',
    'grace=1', 'settle=1', 'splay=1', 'run_on_delete=True', "lock='a'", 'repeat=1', "environment={'A': 'b'}", "cwd='/tmp'",
    'umask=0o027',
])
def test_an_edit_of_any_of_them_makes_another_watch(argument: str) -> None:
    plain = load("RegisterWatch('/a', Exec('x'))")[0]
    edited, again = spec_of(argument), spec_of(argument)
    assert not plain.is_same(edited) and not edited.is_same(plain)
    assert edited.is_same(again)


def test_the_order_of_variables_and_codes_is_no_difference() -> None:
    one, other = "environment={'A': '1', 'B': '2'}, ok_codes=(1, 0)", "environment={'B': '2', 'A': '1'}, ok_codes=(0, 1)"
    assert spec_of(one).is_same(spec_of(other))
