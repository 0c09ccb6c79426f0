"""The exit code of a run whose daemon has died is what the kernel tells of it, if it does."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any, Iterator, Optional

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.processes import is_alive
from tests.support.waiting import Trace, wait_for
from twitcher.runs import child, pidfd

PR_SET_CHILD_SUBREAPER = 36


def kernel_tells() -> bool:
    """Whether it is one from 6.15 on: tried with a child, for its version says little."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    handle = os.pidfd_open(pid)
    os.waitpid(pid, 0)
    try:
        return pidfd.exit_code(handle) == 7
    except OSError:
        return False
    finally:
        os.close(handle)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """What a daemon leaves becomes our child, and not that of an init which may be slow to reap it."""
    set_subreaper(True)
    yield
    set_subreaper(False)


def set_subreaper(is_one: bool) -> None:
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(is_one), 0, 0, 0) == 0


needs_kernel = pytest.mark.skipif(not kernel_tells(), reason='needs Linux 6.15')


@needs_kernel
@pytest.mark.usefixtures('subreaper')
@pytest.mark.parametrize(('command', 'end', 'level'), [
    ('exit 0', 'exited 0', 'INFO'), ('exit 7', 'exited 7', 'WARNING'), ('exit 3', 'exited 3', 'INFO'),
    ('kill -9 $$', 'was killed by SIGKILL', 'WARNING'),
])
def test_a_run_that_a_restarted_daemon_has_found_again_ends_with_its_exit_code(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path, command: str, end: str, level: str) -> None:
    twitcher.config('a.twc', f'''
        RegisterWatch('/a', Exec("""echo begun >> {trace}; until test -e {gate}; do sleep 0.05; done; {command}"""),
                      ok_codes=(0, 3))
    ''')
    ensemble.put('/a', 0)
    twitcher.start()
    trace.wait(1)
    [pid] = twitcher.wait_started('a.twc')
    twitcher.kill()
    twitcher.start()
    twitcher.wait_log(f'a.twc: pid {pid} of an earlier daemon is still running')
    gate.touch()
    os.waitpid(pid, 0)
    assert twitcher.wait_ended('a.twc')[0] == end
    assert twitcher.log_lines(f'{level}: a.twc: pid {pid} {end}')


def test_of_a_run_that_ended_while_no_daemon_was_there_nothing_is_known(twitcher: Twitcher, ensemble: Ensemble) -> None:
    twitcher.config('a.twc', "RegisterWatch('/a', Exec('sleep 0.5; exit 7'))")
    ensemble.put('/a', 0)
    twitcher.start()
    [pid] = twitcher.wait_started('a.twc')
    twitcher.kill()
    wait_for('its end', lambda: not is_alive(pid))
    twitcher.start()
    twitcher.wait_log(f'a.twc: pid {pid}, started by an earlier daemon, ended while no daemon was running')


def grandchild(code: int) -> int:
    """The pid of a process that is not our child, but becomes ours to reap; it ends at SIGTERM."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
            os.write(writer, b'%d' % os.getpid())
            while True:
                signal.pause()
        os._exit(0)
    os.waitpid(middle, 0)
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    return pid


@needs_kernel
@pytest.mark.usefixtures('subreaper')
def test_it_is_waited_for_until_the_process_is_reaped() -> None:
    pid = grandchild(5)
    reattached = child.Reattached(pid, None)
    assert reattached.poll() is None
    os.kill(pid, signal.SIGTERM)
    wait_for('its end', lambda: not is_alive(pid))
    assert reattached.poll() is None
    os.waitpid(pid, 0)
    assert reattached.poll() == child.ExitStatus(5)


@pytest.mark.usefixtures('subreaper')
def test_a_process_that_nobody_reaps_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, 'REAP_TIMEOUT', 0.2)
    pid = grandchild(5)
    reattached = child.Reattached(pid, None)
    os.kill(pid, signal.SIGTERM)
    assert wait_for('its end', reattached.poll) == child.ExitStatus(None)
    os.waitpid(pid, 0)


@pytest.mark.usefixtures('subreaper')
@pytest.mark.parametrize('number', [errno.ENOTTY, errno.EINVAL, errno.ESRCH])
def test_a_kernel_that_does_not_tell_it_costs_no_time(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    pid = grandchild(5)
    reattached = child.Reattached(pid, None)
    monkeypatch.setattr(fcntl, 'ioctl', refused)
    os.kill(pid, signal.SIGTERM)
    began = time.monotonic()
    assert wait_for('its end', reattached.poll) == child.ExitStatus(None)
    assert time.monotonic() - began < child.REAP_TIMEOUT
    os.waitpid(pid, 0)


@pytest.mark.parametrize(('mask', 'status', 'code'), [
    (0xc, 7 << 8, 7), (0x8, 0, 0), (0xf, 9, -9), (0xc, 9 | 0x80, -9), (0x7, 0, None), (0x7, 7 << 8, None),
])
def test_what_the_kernel_fills_in_is_read_as_linux_pidfd_h_has_it(mask: int, status: int, code: Optional[int]) -> None:
    assert pidfd.decoded(struct.pack('=QQ11Ii', mask, 1, *range(11), status)) == code


@needs_kernel
def test_the_code_of_a_program_whose_main_thread_ended_first_is_that_of_the_program(tmp_path: Path) -> None:
    program = ('import ctypes, os, threading, time\n'
               'threading.Thread(target=lambda: (time.sleep(0.3), os._exit(3))).start()\n'
               'ctypes.CDLL(None).pthread_exit(None)\n')
    pid = os.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, '-c', program])
    handle = os.pidfd_open(pid)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert pidfd.exit_code(handle) == 3
    os.close(handle)


@pytest.mark.usefixtures('subreaper')
def test_no_descriptor_is_left() -> None:
    before = len(os.listdir('/proc/self/fd'))
    pid = grandchild(5)
    reattached = child.Reattached(pid, None)
    os.kill(pid, signal.SIGTERM)
    wait_for('its end', lambda: not is_alive(pid))
    os.waitpid(pid, 0)
    assert reattached.poll() is not None
    child.Reattached(pid, 1).poll()
    child.Reattached(os.getpid(), 1).poll()
    assert len(os.listdir('/proc/self/fd')) == before
