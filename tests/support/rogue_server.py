"""A server that speaks as much ZooKeeper as a daemon needs, and misbehaves as a script says."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Callable, Dict, List, Optional, Tuple

CREATED, DELETED, CHANGED, CHILD = 1, 2, 3, 4
_EXISTS, _GET, _SYNC, _PING, _CHILDREN, _CLOSE = 3, 4, 9, 11, 12, -11
_NO_NODE = -101


class RogueServer:
    """Serves on 127.0.0.1 until `close`. `znodes` are the contents by path.

    `misbehave(connection, kind, path)` is called before each request is answered, with 'connect', 'exists', 'get', 'sync',
    'ping', 'children' or 'close'. It may return an error code for the answer, or None; send with `connection.send`, or end
    the connection by raising EOFError.
    """

    def __init__(self) -> None:
        self.znodes: Dict[str, bytes] = {}
        self.children: Dict[str, bytes] = {}
        self.misbehave: Callable[[Connection, str, str], Optional[int]] = lambda connection, kind, path: None
        self.connections: List[Connection] = []
        self.is_read_only = False
        self.zxid = 100
        self._changed_at: Dict[str, int] = {}
        self._listener = socket.create_server(('127.0.0.1', 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.hosts = f'127.0.0.1:{self.port}'
        threading.Thread(target=self._accept, daemon=True).start()

    def put(self, path: str, contents: bytes) -> None:
        """Set a znode, and tell those who watch it."""
        self.zxid += 1
        self.znodes[path] = contents
        self._changed_at[path] = self.zxid
        for connection in list(self.connections):
            if path in connection.watches:
                connection.watches.discard(path)
                connection.event(CHANGED, path)

    def changed_at(self, path: str) -> int:
        """The zxid of a znode's last change."""
        return self._changed_at.get(path, 1)

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self.connections):
            connection.end()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(Connection(self, client))


class Connection:
    """One connection that was accepted, and when."""

    def __init__(self, server: RogueServer, client: socket.socket) -> None:
        self.at = time.monotonic()
        self.watches: set[str] = set()
        self._server = server
        self._socket = client
        self._file = client.makefile('rb')
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, data: bytes) -> None:
        """Send a frame of these bytes."""
        with contextlib.suppress(OSError):
            self._socket.sendall(struct.pack('!i', len(data)) + data)

    def event(self, kind: int, path: str) -> None:
        """Send a watch event."""
        self.send(struct.pack('!iqiii', -1, -1, 0, kind, 3) + _text(path))

    def reply(self, xid: int, error: int, body: bytes = b'') -> None:
        """Answer a request."""
        self.send(struct.pack('!iqi', xid, self._server.zxid, error) + body)

    def end(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(EOFError, OSError, ValueError):
            first = self._socket.recv(4, socket.MSG_PEEK)
            if first == b'isro':
                self._socket.sendall(b'rw')
                raise EOFError
            self._frame()
            self._server.misbehave(self, 'connect', '')
            self.send(struct.pack('!iiq', 0, 3000, 0x7700 + len(self._server.connections)) + _text('x' * 16)
                      + bytes([self._server.is_read_only]))
            while True:
                xid, kind, body = self._request()
                names = {_EXISTS: 'exists', _GET: 'get', _SYNC: 'sync', _PING: 'ping', _CHILDREN: 'children', _CLOSE: 'close'}
                path = body[4:4 + struct.unpack('!i', body[:4])[0]].decode() if len(body) > 4 else ''
                error = self._server.misbehave(self, names[kind], path)
                if error is not None:
                    self.reply(xid, error)
                else:
                    self._answer(xid, names[kind], path, body)
        self.end()

    def _request(self) -> Tuple[int, int, bytes]:
        frame = self._frame()
        xid, kind = struct.unpack('!ii', frame[:8])
        return xid, kind, frame[8:]

    def _frame(self) -> bytes:
        head = self._file.read(4)
        if len(head) < 4:
            raise EOFError
        return self._file.read(struct.unpack('!i', head)[0])

    def _answer(self, xid: int, kind: str, path: str, body: bytes) -> None:
        server = self._server
        if kind == 'sync':
            self.reply(xid, 0, body)
        elif kind in ('ping', 'close'):
            self.reply(xid, 0)
        else:
            exists = path in server.znodes or path in server.children
            if body[-1] and (exists or kind == 'exists'):
                self.watches.add(path)
            contents = server.znodes.get(path, b'')
            zxid = server.changed_at(path)
            stat = struct.pack('!qqqqiiiqiiq', 1, zxid, 0, 0, 1, 1, 0, 0, len(contents), 0, zxid)
            if not exists:
                self.reply(xid, _NO_NODE)
            elif kind == 'exists':
                self.reply(xid, 0, stat)
            elif kind == 'get':
                self.reply(xid, 0, struct.pack('!i', len(contents)) + contents + stat)
            else:
                self.reply(xid, 0, server.children.get(path, struct.pack('!i', 0)) + stat)


def child_list(count: int) -> bytes:
    """The list of so many children, as a server sends it."""
    return struct.pack('!i', count) + b''.join(_text(f'child-{number * 7919 % count:010d}') for number in range(count))


def _text(text: str) -> bytes:
    return struct.pack('!i', len(text.encode())) + text.encode()
