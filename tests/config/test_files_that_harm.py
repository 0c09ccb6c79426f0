"""What a .twc file does to the interpreter harms neither the daemon nor another file, against a running daemon."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import wait_for

HARM = {
    'takes itself out of sys.modules': 'import sys\ndel sys.modules[__name__]',
    'empties sys.modules': 'import sys\nsys.modules.clear()',
    'blocks an import': 'import sys\nsys.modules["colorsys"] = None',
    'puts a fake into sys.modules': 'import sys, types\nsys.modules["colorsys"] = types.ModuleType("colorsys")',
    'empties sys.path': 'import sys\nsys.path.clear()\nsys.meta_path.clear()\nsys.path_hooks.clear()',
    'replaces functions': 'import builtins, os, time\nbuiltins.len = os.read = time.monotonic = os.pipe2 = None',
    'replaces and closes streams': 'import sys\nsys.stdout.close()\nsys.stderr = None',
    'takes the wakeup descriptor': 'import asyncio\nasyncio.run(asyncio.sleep(0))',
    'sets a locale': 'import locale\nlocale.setlocale(locale.LC_ALL, "C.UTF-8")',
    'makes warnings errors': 'import warnings\nwarnings.simplefilter("error")',
    'blocks signals': 'import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())',
    'becomes nobody for a while': 'import os\nos.seteuid(65534)',
    'lowers limits': 'from resource import *\nsetrlimit(RLIMIT_NOFILE, (8, getrlimit(RLIMIT_NOFILE)[1]))',
    'changes directory and umask': 'import os\nos.chdir("/tmp")\nos.umask(0o777)',
    'empties the environment': 'import os\nos.environ.clear()',
    'sets a timer': 'import signal\nsignal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)',
    'shuts logging down': 'import logging.config\nlogging.config.dictConfig({"version": 1})\nlogging.shutdown()',
    'silences logging': 'import logging\nlogging.disable(logging.CRITICAL)\nlogging.getLogger().handlers.clear()',
    'sets a default timeout': 'import socket\nsocket.setdefaulttimeout(0.001)',
    'closes the loop': 'import asyncio\nasyncio.set_event_loop(None)\nasyncio._set_running_loop(None)',
}
STUBBORN = '''
import time

while True:
    try:
        time.sleep(1)
    except:
        try:
            time.sleep(0.01)
        except:
            pass
'''
REFUSED = {
    'closes descriptors': 'import os\nos.closerange(3, 100)',
    'closes descriptors one by one': 'import os\nfor number in range(3, 12):\n    os.close(number)',
    'closes epoll as a file': 'import os\nfor number in range(3, 12):\n    try:\n        os.fdopen(number).close()\n'
                              '    except OSError:\n        pass',
    'ends the process': 'import os\nos._exit(0)',
    'executes a command': 'import os\nos.execv("/bin/true", ["true"])',
    'becomes nobody': 'import os\nos.setuid(65534)',
    'loops in a helper': 'import sys\nsys.path.insert(0, {directory!r})\nimport stubborn',
}


def _is_well(twitcher: Twitcher, ensemble: Ensemble, directory: Path) -> None:
    """It loads what comes next, runs it, hears of signals, logs and stops."""
    twitcher.config('next.twc', f"import colorsys\nRegisterWatch('/next', Exec('pwd; umask; echo $KEPT; echo `cat`'), "
                                f"description='next')\ncolorsys.rgb_to_hls(1, 1, 1)\nopen({str(directory / 'next')!r}, 'w')")
    assert twitcher.wait_printed('next', 4) == ['/', '0022', 'kept', 'one']
    ensemble.put('/next', 'two')
    assert twitcher.wait_printed('next', 8)[7] == 'two'
    assert twitcher.process
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('SIGHUP: rereading')
    assert os.stat(directory / 'next').st_uid == 0
    assert twitcher.stop() == 0
    twitcher.wait_log('ended$')


@pytest.mark.parametrize('name', HARM)
def test_the_daemon_is_well_after_a_file_that(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path, name: str) -> None:
    ensemble.put('/next', 'one')
    twitcher.start(environment={'KEPT': 'kept'})
    twitcher.config('harm.twc', HARM[name])
    twitcher.wait_log('harm.twc: (loaded|.*not loaded)')
    _is_well(twitcher, ensemble, tmp_path)


@pytest.mark.parametrize('name', REFUSED)
def test_the_daemon_reports_and_survives_a_file_that(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path, name: str) -> None:
    (tmp_path / 'stubborn.py').write_text(STUBBORN)
    ensemble.put('/next', 'one')
    twitcher.config('harm.twc', REFUSED[name].replace('{directory!r}', repr(str(tmp_path))))
    twitcher.start(environment={'KEPT': 'kept'}, wait=False)
    twitcher.wait_log(r'ERROR: \S+harm.twc.*; not loaded')
    _is_well(twitcher, ensemble, tmp_path)


def test_threads_that_a_file_leaves_are_reported(twitcher: Twitcher) -> None:
    twitcher.config('t.twc', 'import threading\nthreading.Thread(target=threading.Event().wait, name="left behind").start()')
    twitcher.start()
    twitcher.wait_log('WARNING: .*t.twc has left threads.*left behind')
    twitcher.wait_log('t.twc: loaded')
    assert twitcher.stop() == 0


def test_what_a_file_prints_while_it_is_loaded_is_logged_with_its_name_up_to_a_limit(twitcher: Twitcher) -> None:
    twitcher.config('p.twc', 'import sys\n'
                    'print("hello\\nworld")\nprint("error", file=sys.stderr)\nsys.stdout.buffer.write(b"raw")')
    twitcher.config('q.twc', 'while True:\n    print("x" * 1000)')
    twitcher.start(wait=False)
    for line in ('hello', 'world', 'error', 'raw'):
        twitcher.wait_log(rf'INFO: \S+/p.twc printed: {line}$')
    twitcher.wait_log(r'q.twc printed: \.\.\. and \d+ bytes more')
    assert len(twitcher.log_lines('q.twc printed: x')) == 100
    assert 'hello' not in twitcher.stdio()


def test_sys_path_of_a_file_is_in_force_in_its_functions_and_nowhere_else(twitcher: Twitcher, ensemble: Ensemble,
                                                                          tmp_path: Path) -> None:
    (tmp_path / 'late_helper.py').write_text('value = 7\n')
    twitcher.config('a.twc', f'''
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        sys.setrecursionlimit(5000)
        def f():
            import late_helper
            print(late_helper.value, sys.getrecursionlimit())
        RegisterWatch('/s', f, description='mine')
    ''')
    twitcher.config('b.twc', '''
        def g():
            import sys
            print(any('late_helper.py' in str(path) for path in sys.path), sys.getrecursionlimit())
            import late_helper
        RegisterWatch('/s', g, description='other')
    ''')
    ensemble.put('/s', '')
    twitcher.start()
    assert twitcher.wait_printed('mine', 1) == ['7 5000']
    assert twitcher.wait_ended('other') == ['exited 1']


def test_an_edited_file_that_logs_to_a_file_leaks_no_descriptor(twitcher: Twitcher, tmp_path: Path) -> None:
    text = f'import logging\nlogging.basicConfig(filename="{tmp_path}/own", level=logging.INFO)\nlogging.info("loaded")\n'
    twitcher.config('l.twc', text)
    twitcher.start()
    twitcher.wait_log('l.twc: loaded')
    for number in range(3):
        twitcher.config('l.twc', text + f'# {number}\n')
        wait_for('the load', partial(lambda count: (tmp_path / 'own').read_text().count('loaded') == count, number + 2))
    names = [os.readlink(entry) for entry in Path(f'/proc/{twitcher.pid}/fd').iterdir()]
    assert str(tmp_path / 'own') not in names


def test_the_table_of_mounts_is_open_again_after_a_file_has_closed_it(twitcher: Twitcher) -> None:
    def mount_tables() -> int:
        """How many descriptors of the daemon lead to the table, without duplicates from a load."""
        links = [os.readlink(entry) for entry in Path(f'/proc/{twitcher.pid}/fd').iterdir() if int(entry.name) < 256]
        return sum(link.endswith('/mountinfo') for link in links)

    twitcher.start()
    assert mount_tables() == 1
    twitcher.config('m.twc', '''
        import os
        for number in range(3, 256):
            try:
                if os.readlink(f'/proc/self/fd/{number}').endswith('/mountinfo'):
                    os.fdopen(number).close()
            except OSError:
                continue
    ''')
    twitcher.wait_log('m.twc: it closed descriptors of the daemon')
    assert mount_tables() == 1
    assert twitcher.stop() == 0
