"""The queue between those who log and the thread that writes: a syslog server or a disk that is stuck holds up nobody.

An outage of up to MAX_STALL loses nothing that fits the queue; what is lost is counted, and logged when the log takes
records again. Neither `put` nor the thread ever raises, and nothing ends the thread but `close`.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import Iterable, Optional, Tuple

from twitcher.log_target import ERROR, Destination, Record

MAX_STALL = 60.0
"""Seconds for which a record is offered to a log that does not take it; from then on records that find no room, or are
not taken at once, are dropped until one is."""
RETRY_DELAY = 0.1
_MAX_WAIT = 1.0


class LogQueue:
    """Takes records at once; its thread writes them, as long as it takes."""

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
        """Whether `put` queues the next records, or drops them because nothing else can be done."""
        return self._size < self._capacity or self._is_stalled()

    def put(self, records: Iterable[Record], size: int = 1) -> None:
        """Queue the records, of this size together; the thread iterates over them. Drop them if there is no room."""
        with self._lock:
            has_room = self._size < self._capacity
            if has_room:
                self._size += size
        if has_room:
            self._queue.put((records, size))
        else:
            self._drop(records)

    def close(self, timeout: Optional[float]) -> None:
        """Write what is queued, for at most so many seconds; None: as long as the log is not stalled."""
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
        """Write one record; False if it is to be dropped, since the log has taken none for too long."""
        if self._trying_since is None:
            self._trying_since = time.monotonic()
        while True:
            remaining = self._trying_since + MAX_STALL - time.monotonic()
            try:
                self._destination.write(record, min(max(remaining, 0.0), _MAX_WAIT))
            except Exception:  # whatever it is, there is nowhere to report it
                if remaining <= 0:
                    return False
                time.sleep(RETRY_DELAY)
                continue
            self._trying_since = None
            return True
