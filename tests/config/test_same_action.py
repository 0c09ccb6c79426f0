"""When two versions of a watch are the same, so that a file that is loaded again runs nothing."""

from __future__ import annotations

from typing import Type

import pytest

from tests.support.language import load
from twitcher.config.arguments import make_spec

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
