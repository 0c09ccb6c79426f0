"""A proxy that replaces answers of a ZooKeeper server by errors."""

from __future__ import annotations

import random
import socket
import struct
from typing import Callable

from tests.support.proxy import Proxy

ERRORS = (-1, -4, -127, -900)
"""SystemError, ConnectionLoss, the code of a server that throttles, and one that no
client knows."""
_LENGTH = struct.Struct('>i')
_REPLY = struct.Struct('>iqi')
"""The header of a reply: the number of the request, the zxid, the error code. Events
and pings have negative numbers."""


class ErringProxy(Proxy):
    """Replaces the share `error_rate` of the answers by errors; the server has carried
    out the requests all the same."""

    def __init__(self, target: int) -> None:
        self.error_rate = 0.0
        self.replaced = 0
        super().__init__(target)

    def _change_for(self, source: socket.socket) -> Callable[[bytes], bytes]:
        if any(source is client for client, _ in self._pairs):
            return super()._change_for(source)
        rest, is_connected = b'', False

        def change(data: bytes) -> bytes:
            nonlocal rest, is_connected
            rest += data
            frames = b''
            while len(rest) >= 4 and len(rest) >= 4 + _LENGTH.unpack_from(rest)[0]:
                end = 4 + _LENGTH.unpack_from(rest)[0]
                frames += self._answer(rest[:end]) if is_connected else rest[:end]
                rest, is_connected = rest[end:], True
            return frames

        return change

    def _answer(self, frame: bytes) -> bytes:
        """The frame, or one that has an error instead."""
        if len(frame) < 4 + _REPLY.size or not self.error_rate or random.random() > self.error_rate:
            return frame
        number, zxid, error = _REPLY.unpack_from(frame, 4)
        if number < 0 or error:
            return frame
        self.replaced += 1
        return _LENGTH.pack(_REPLY.size) + _REPLY.pack(number, zxid, random.choice(ERRORS))
