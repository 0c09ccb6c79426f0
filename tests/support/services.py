"""A service that an action starts, as systemd would: it says when it starts, is ready and reloads, and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import List

from tests.support.processes import is_alive
from tests.support.waiting import Trace

SERVICE = '''#!/usr/bin/python3
import os, signal, time
trace = '{trace}'
def say(line):
    with open(trace, 'a') as file:
        file.write(line + '\\n')
def wait(name):
    while not os.path.exists(trace + name):
        time.sleep(0.02)
say(f'starts {{os.getpid()}}')
{start}
say('ready')
while True:
    time.sleep(1000)
'''
"""The program: what it does between its first word and `ready` is put in."""

CATCHES = "signal.signal(signal.SIGHUP, lambda *_: say('reloaded'))"
"""It catches SIGHUP."""


def service(trace: Trace, start: str = CATCHES) -> Path:
    """The program of a service, in a directory that everybody may enter."""
    path = trace.path.with_name('service')
    path.write_text(SERVICE.format(trace=trace, start=start))
    path.chmod(0o755)
    return path


def services(trace: Trace) -> List[int]:
    """The pids of all that have been started."""
    return [int(line.split()[1]) for line in trace.lines() if line.startswith('starts')]


def living(trace: Trace) -> List[int]:
    """Those that go on."""
    return [pid for pid in services(trace) if is_alive(pid)]


def reloads(trace: Trace) -> int:
    return trace.lines().count('reloaded')
