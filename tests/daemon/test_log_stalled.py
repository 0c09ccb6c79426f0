"""A syslog server that is there and reads nothing, or that takes a stream: it costs log records, and nothing else."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Iterator

import pytest

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.syslog_server import SyslogServer
from tests.support.waiting import Trace

KINDS = [socket.SOCK_DGRAM, socket.SOCK_STREAM]


@pytest.fixture(params=KINDS, ids=['datagrams', 'stream'])
def syslog(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SyslogServer]:
    """A server of either kind."""
    server = SyslogServer(tmp_path / 'syslog', request.param)
    yield server
    server.close()


@pytest.mark.timeout(240)
def test_actions_that_print_go_on_after_a_minute_though_syslog_reads_nothing(
        twitcher: Twitcher, ensemble: Ensemble, syslog: SyslogServer, trace: Trace) -> None:
    twitcher.config('o.twc', f"RegisterWatch('/o', Exec('read x n; yes $x | head -n $n; echo $x >> {trace}'))")
    twitcher.start(log_to=['--syslog_socket', str(syslog.path)])
    syslog.wait('ZooKeeper: connected')
    syslog.is_reading.clear()
    ensemble.put('/o', 'deaf 600000\n')
    began = time.monotonic()
    while not trace.lines() and time.monotonic() < began + 110:
        time.sleep(0.1)
    assert trace.lines() == ['deaf']
    assert time.monotonic() > began + 50  # a log that is back within a minute has it all
    syslog.is_reading.set()
    # Until then what is printed may be lost as well.
    syslog.wait('[0-9]+ records were lost: the log did not take them')
    ensemble.put('/o', 'heard 5000\n')
    trace.wait(2)
    syslog.wait(r'o\.twc\[\d+\]: heard$', 5000)


def test_records_of_a_stream_end_each_with_a_nul(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    server = SyslogServer(tmp_path / 'syslog', socket.SOCK_STREAM)
    try:
        twitcher.config('o.twc', "RegisterWatch('/o', Exec('for i in 1 2 3 4 5; do echo line $i; done'), description='it')")
        twitcher.config('bad.twc', "raise ValueError('two\\nlines')")
        ensemble.put('/o', '')
        twitcher.start(log_to=['--syslog_socket', str(server.path)])
        server.wait('^<30>twitcher.*ZooKeeper: connected')
        server.wait(r'^<30>twitcher\[\d+\]: it\[\d+\]: line [1-5]$', 5)
        server.wait(r'^<30>twitcher\[\d+\]: it: pid \d+ exited 0 after [\d.]+ s$')
        assert all(record.startswith('<') and record.count('twitcher[') == 1 for record in server.records)
    finally:
        server.close()
