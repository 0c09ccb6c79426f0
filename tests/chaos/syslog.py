"""A syslog server of ours, which goes away and comes back, or stalls, and loses nothing
that it has taken."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from pathlib import Path
from typing import Optional


class Syslog:
    """Writes the datagrams that come to the socket to a file, a line each."""

    def __init__(self, path: Path, log: Path) -> None:
        self._path = path
        self._log = log
        self._socket: Optional[socket.socket] = None
        self._thread: Optional[threading.Thread] = None
        self._may_read = threading.Event()
        self._may_read.set()

    def come(self) -> None:
        """Listen."""
        if not self._socket:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind(str(self._path))
            self._thread = threading.Thread(target=self._serve, args=(self._socket,), daemon=True)
            self._thread.start()

    def stall(self) -> None:
        """Be there, but read nothing."""
        self._may_read.clear()

    def go_on(self) -> None:
        """Read again."""
        self._may_read.set()

    def go(self) -> None:
        """Stop listening. Who writes from now on gets an error; what was taken before
        is still written to the file."""
        self.go_on()
        if self._socket and self._thread:
            os.unlink(self._path)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RD)
            self._thread.join()
            self._socket.close()
            self._socket = None

    def _serve(self, listener: socket.socket) -> None:
        with self._log.open('ab', buffering=0) as log:
            while True:
                self._may_read.wait()
                datagram = listener.recv(65536)
                if not datagram:
                    return
                log.write(re.sub(rb'^<\d+>', b'', datagram) + b'\n')
