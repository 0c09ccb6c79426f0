"""A small TCP proxy that does to a connection what networks do: cut it, refuse it, swallow what it carries, delay it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Callable, List, Tuple

from twitcher.zookeeper.throwaway import ThrowAwayServer


class Proxy:
    """Stands between a client and 127.0.0.1:`target`. It serves until `close`, through threads that end with it."""

    def __init__(self, target: int) -> None:
        self.delay = 0.0
        self.attempts = 0
        self._target = target
        self._is_refusing = False
        self._is_swallowing = False
        self._greeting = b''
        self._pairs: List[Tuple[socket.socket, socket.socket]] = []
        self._dead: List[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(('127.0.0.1', 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self.hosts = f'127.0.0.1:{self.port}'
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End the connections that there are."""
        with self._lock:
            sockets = [end for pair in self._pairs for end in pair]
            self._pairs.clear()
            self._dead.clear()
        for end in sockets:
            _end(end)

    def refuse(self) -> None:
        """End the connections that there are, and each new one at once."""
        self._is_refusing = True
        self.cut()

    def greet(self, greeting: bytes) -> None:
        """Answer each new connection with these bytes and end it, as something does that is no ZooKeeper."""
        self._greeting = greeting
        self.refuse()

    def swallow(self) -> None:
        """Carry nothing any more, on no connection, but keep them: half-open, as when a firewall forgets them."""
        with self._lock:
            self._is_swallowing = True
            self._dead.extend(end for pair in self._pairs for end in pair)

    def heal(self) -> None:
        """Serve new connections. What was swallowed stays dead, and is ended."""
        with self._lock:
            dead = list(self._dead)
            self._is_swallowing = self._is_refusing = False
            self._greeting = b''
        for end in dead:
            _end(end)

    def close(self) -> None:
        """End everything."""
        self._is_refusing = True
        _end(self._listener)
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.attempts += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._is_refusing:
            with contextlib.suppress(OSError):
                client.sendall(self._greeting)
            _end(client)
            return
        try:
            server = socket.create_connection(('127.0.0.1', self._target))
        except OSError:
            _end(client)
            return
        with self._lock:
            self._pairs.append((client, server))
            if self._is_swallowing:
                self._dead.extend((client, server))
        if self._is_refusing:
            self.cut()
        threading.Thread(target=self._carry, args=(server, client), daemon=True).start()
        self._carry(client, server)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        change = self._change_for(source)
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                if source in self._dead:
                    continue
                if self.delay:
                    time.sleep(self.delay)
                target.sendall(change(data))
        if source not in self._dead:
            _end(source)
            _end(target)

    def _change_for(self, source: socket.socket) -> Callable[[bytes], bytes]:
        """What to do to the bytes from this socket, in order, before they go on."""
        return lambda data: data


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


NewProxy = Callable[[ThrowAwayServer], Proxy]
