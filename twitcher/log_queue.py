"""The queue in front of the thread that writes the log, so that a stuck syslog server
or disk never blocks the threads that log.

A stall of up to MAX_STALL loses no record that fits into the queue. Lost records are
counted, and the number is logged as soon as the log accepts records again. Neither
`put` nor the thread ever raises; the thread ends only after `close`.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Iterable, Optional, Tuple

from twitcher.log_target import ERROR, Destination, Record

MAX_STALL = 60.0
"""Seconds for which a record is tried again while the log does not accept it. After
that, records that do not fit into the queue or are not accepted at once are dropped,
until the log accepts one."""
RETRY_DELAY = 0.1
_MAX_WAIT = 1.0


class LogQueue:
    """Queues records without blocking; its thread writes them."""

    def __init__(self, destination: Destination, capacity: int) -> None:
        self._destination = destination
        self._capacity = capacity
        self._queue: queue.SimpleQueue[Optional[Tuple[Iterable[Record], int]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._size = 0
        self._lost = 0
        self._trying_since: Optional[float] = None
        self._thread = threading.Thread(target=self._write_all, name='log', daemon=True)
        self._thread.start()

    def has_room(self) -> bool:
        """Whether to call `put` now: there is room in the queue, or the log is stalled
        and waiting does not help."""
        return self._size < self._capacity or self._is_stalled()

    def put(self, records: Iterable[Record], size: int = 1) -> None:
        """Queue records that have this size in total, or drop them if there is no room.
        The thread iterates over them."""
        with self._lock:
            has_room = self._size < self._capacity
            if has_room:
                self._size += size
        if has_room:
            self._queue.put((records, size))
        else:
            self._drop(records)

    def close(self, timeout: Optional[float]) -> None:
        """Write the queued records, for at most `timeout` seconds; None waits as long
        as the log is not stalled."""
        self._queue.put(None)
        if timeout is not None:
            self._thread.join(timeout)
            return
        while self._thread.is_alive() and not self._is_stalled():
            self._thread.join(RETRY_DELAY)

    def _is_stalled(self) -> bool:
        since = self._trying_since
        return since is not None and time.monotonic() - since > MAX_STALL

    def _drop(self, records: Iterable[Record]) -> None:
        for record in records:
            with self._lock:
                self._lost += 1
            if record.on_delivered:
                record.on_delivered()

    def _write_all(self) -> None:
        for records, size in iter(self._queue.get, None):
            for record in records:
                if not self._write(record):
                    self._drop([record])
                    continue
                if record.on_delivered:
                    record.on_delivered()
                if self._lost:
                    self._report_lost()
            with self._lock:
                self._size -= size

    def _report_lost(self) -> None:
        lost = self._lost
        if self._write(Record(__name__, ERROR, f'{lost} records were lost: the log did not take them')):
            with self._lock:
                self._lost -= lost

    def _write(self, record: Record) -> bool:
        """Write one record. Returns False if it must be dropped, because the log has
        accepted none for MAX_STALL seconds."""
        if self._trying_since is None:
            self._trying_since = time.monotonic()
        while True:
            remaining = self._trying_since + MAX_STALL - time.monotonic()
            try:
                self._destination.write(record, min(max(remaining, 0.0), _MAX_WAIT))
            except Exception:  # there is nowhere to report it
                if remaining <= 0:
                    return False
                time.sleep(RETRY_DELAY)
                continue
            self._trying_since = None
            return True
