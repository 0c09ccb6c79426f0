"""The queue before the log, at a syslog server that is there and reads nothing: no daemon."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from tests.support.syslog_server import SyslogServer
from tests.support.waiting import wait_for
from twitcher import log_queue
from twitcher.log_queue import LogQueue
from twitcher.log_target import INFO, LogTarget, Record, open_target


@pytest.mark.parametrize('kind', [socket.SOCK_DGRAM, socket.SOCK_STREAM], ids=['datagrams', 'stream'])
def test_what_is_lost_while_the_server_reads_nothing_is_counted_and_what_follows_is_whole(
        tmp_path: Path, kind: socket.SocketKind, monkeypatch: pytest.MonkeyPatch) -> None:
    syslog = SyslogServer(tmp_path / 'syslog', kind)
    monkeypatch.setattr(log_queue, 'MAX_STALL', 0.5)
    queue = LogQueue(open_target(LogTarget('syslog', str(syslog.path)), 1), 100)
    syslog.is_reading.clear()
    put = 0
    end = time.monotonic() + 2
    while time.monotonic() < end:
        while queue.has_room() and time.monotonic() < end:
            queue.put([Record('it', INFO, f'record {put:06d} ' + 'x' * 4000)])
            put += 1
        time.sleep(0.01)
    syslog.is_reading.set()
    queue.put([Record('it', INFO, 'last')])
    end = time.monotonic() + 20
    while not syslog.find('lost') and time.monotonic() < end:
        queue.put([Record('it', INFO, f'record {put:06d} ' + 'x' * 4000)])
        put += 1
        time.sleep(0.01)
    queue.close(None)

    def accounted() -> int:
        """Records that have come, and those that are said to be lost."""
        lost = sum(int(record.partition(': ')[2].split()[0]) for record in syslog.find('records were lost'))
        return lost + len(syslog.find(r': record \d+ x{4000}$')) + len(syslog.find(': last$'))

    # One that had gone in part when it was counted as lost has come, too.
    wait_for('all of them', lambda: accounted() >= put + 1)
    assert accounted() <= put + 2
    syslog.close()
