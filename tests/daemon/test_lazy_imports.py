"""What our libraries import and nobody uses costs nothing, and is there when it is used after all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.proxy import Proxy
from twitcher.lazy_imports import NAMES

_UNUSED = """
import sys

def used():
    from twitcher.lazy_imports import NAMES
    print('imported:', *sorted(NAMES & set(sys.modules)))

RegisterWatch('/late', used, description='it')
"""


def _python(*lines: str) -> str:
    """What a new interpreter prints that executes the lines."""
    first = (f'import sys; sys.path.insert(0, {str(TOP)!r})', 'from twitcher.lazy_imports import lazy_imports')
    program = '\n'.join(first + lines)
    return subprocess.run([sys.executable, '-I', '-c', program], check=True, stdout=subprocess.PIPE, text=True).stdout


def test_a_daemon_does_without_them_also_when_the_connection_is_lost(tmp_path: Path, ensemble: Ensemble) -> None:
    ensemble.put('/late', '')
    proxy = Proxy(int(ensemble.hosts.partition('/')[0].rpartition(':')[2]))
    daemon = Twitcher(tmp_path, proxy.hosts + ensemble.chroot)
    try:
        daemon.config('late.twc', _UNUSED)
        daemon.start()
        daemon.wait_printed('it', 1)
        proxy.cut()
        daemon.wait_log('ZooKeeper: connected', 2)
        ensemble.put('/late', 'again')
        for line in daemon.wait_printed('it', 2):
            assert not {'asyncio.sslproto', 'ctypes.util', 'hashlib', 'inspect', 'ssl', 'uuid'} & set(line.split())
    finally:
        daemon.close()
        proxy.close()


def test_what_is_used_after_all_is_the_module_itself() -> None:
    assert _python(
        'with lazy_imports():',
        '    import asyncio.base_events, uuid',
        'print("ssl" in sys.modules, asyncio.base_events.ssl.SSLError.__name__, "ssl" in sys.modules)',
        'import ssl',
        'print(asyncio.base_events.ssl.SSLError is ssl.SSLError, uuid.uuid4() != uuid.uuid4())',
    ).split() == ['False', 'SSLError', 'True', 'True', 'True']


def test_what_is_used_at_once_is_imported_at_once() -> None:
    assert _python(
        'with lazy_imports():',
        '    from glob import glob',
        '    import glob as module',
        'print(glob is module.glob, type(module).__name__)').split() == ['True', 'module']


def test_what_a_daemon_asks_of_inspect_is_answered_as_inspect_would_without_an_import() -> None:
    assert _python(
        'from functools import partial, wraps',
        'with lazy_imports():',
        '    import inspect as stand_in',
        'class C:',
        '    def method(self): pass',
        '    async def coroutine(self): pass',
        '@wraps(C.coroutine)',
        'def wrapper(): pass',
        'values = [1, C, C(), C.method, C().method, C.coroutine, C().coroutine, partial(C().coroutine), wrapper, print]',
        'def answers(module):',
        '    yield from map(module.isclass, values)',
        '    yield from map(module.isfunction, values)',
        '    yield from map(module.unwrap, values)',
        '    yield from map(module.iscoroutinefunction, values)',
        'mine = list(answers(stand_in))',
        'print("inspect" in sys.modules)',
        'import inspect',
        'print(inspect is not stand_in, mine == list(answers(inspect)) == list(answers(stand_in)))',
    ).split() == ['False', 'True', 'True']


def test_a_callback_that_raises_is_reported_without_an_import() -> None:
    assert _python(
        'with lazy_imports():',
        '    import asyncio',
        'loop = asyncio.new_event_loop()',
        'loop.set_exception_handler(lambda loop, context: print(context["message"].split()[0], "inspect" in sys.modules))',
        'loop.call_soon(lambda: 1 / 0)',
        'loop.call_soon(loop.stop)',
        'loop.run_forever()',
    ).split() == ['Exception', 'False']


def test_nothing_of_it_is_left_for_who_imports_afterwards() -> None:
    names = sorted(NAMES)
    assert _python(
        'with lazy_imports():',
        f'    import {", ".join(names)}',
        f'import {", ".join(names)}',
        f'print({{type(sys.modules[name]).__name__ for name in {names}}})',
    ).split() == ["{'module'}"]


def test_a_config_that_has_a_module_of_the_same_name_does_not_put_it_in_their_place(tmp_path: Path) -> None:
    (tmp_path / 'uuid.py').write_text('print("mine")\n')
    assert _python(
        'with lazy_imports():',
        '    import kazoo.recipe.lock',
        f'sys.path.insert(0, {str(tmp_path)!r})',
        'import uuid',
        'print(kazoo.recipe.lock.uuid.uuid4 is uuid.uuid4)').split() == ['True']


def test_one_that_cannot_be_found_is_missed_as_ever() -> None:
    assert _python(
        'sys.path.clear()',
        'try:',
        '    with lazy_imports():',
        '        import uuid',
        'except ImportError as error:',
        '    print(error)').strip() == "No module named 'uuid'"


def test_a_config_may_use_kazoo_with_tls() -> None:
    assert _python(
        'with lazy_imports():',
        '    import twitcher.zookeeper.client',
        'from kazoo.protocol import connection',
        'print(connection.ssl.SSLError.__name__, "ssl" in sys.modules)',
        'import ssl',
        'print(connection.ssl.SSLError is ssl.SSLError, connection.ssl.SSL_ERROR_WANT_READ is ssl.SSL_ERROR_WANT_READ)',
    ).split() == ['_Never', 'False', 'True', 'True']
