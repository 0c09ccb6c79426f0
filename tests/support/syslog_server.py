"""A syslog server for tests: reads in a thread of its own, can stop to read, and keeps what it has read."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path
from typing import List, Optional

from tests.support.waiting import wait_for


class SyslogServer:
    """Listens at the path, for datagrams or for a stream; records that match `ignored` are not kept.

    `is_reading` can be cleared: then it is there and reads nothing. It is as good as a process that was sent SIGSTOP.
    """

    def __init__(self, path: Path, kind: socket.SocketKind = socket.SOCK_DGRAM, ignored: Optional[str] = None) -> None:
        self.path = path
        self.records: List[str] = []
        self.stream = b''
        self.is_reading = threading.Event()
        self.is_reading.set()
        self._ignored = ignored and re.compile(ignored)
        self._kind = kind
        self._socket = socket.socket(socket.AF_UNIX, kind)
        self._socket.bind(str(path))
        if kind == socket.SOCK_STREAM:
            self._socket.listen(8)
        self._sockets = [self._socket]
        threading.Thread(target=self._accept if kind == socket.SOCK_STREAM else self._read, args=(self._socket,),
                         daemon=True).start()

    def wait(self, pattern: str, count: int = 1) -> List[str]:
        """The records in which the regular expression is found, as soon as there are so many."""
        return wait_for(f'{count} x {pattern!r} in syslog', lambda: (
            found if len(found := self.find(pattern)) >= count else None))

    def find(self, pattern: str) -> List[str]:
        """The records so far in which the regular expression is found."""
        return [record for record in list(self.records) if re.search(pattern, record)]

    def close(self) -> None:
        """Be gone."""
        self.is_reading.set()
        for each in self._sockets:
            each.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            self._sockets.append(connection)
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        rest = b''
        while True:
            self.is_reading.wait()
            try:
                data = connection.recv(1 << 20)
            except OSError:
                return
            if not data:
                return
            records = [data]
            if self._kind == socket.SOCK_STREAM:
                *records, rest = (rest + data).split(b'\0')
            for record in records:
                if not self._ignored or not self._ignored.search(record.decode()):
                    self.records.append(record.decode())
