"""Subscriptions without a daemon, on a loop of their own; and what a server says of its watches."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from concurrent.futures import Future
from typing import Any, Callable, List

from tests.support.waiting import wait_for
from twitcher.znode import WatchType, ZnodeState
from twitcher.zookeeper.ensemble import Ensemble
from twitcher.zookeeper.session import Session
from twitcher.zookeeper.subscriptions import Subscriptions

DATA, CHILDREN = WatchType.DATA, WatchType.CHILDREN


class Listener:
    """A listener that keeps every state that it receives, in order."""

    def __init__(self, path: str, watch_type: WatchType) -> None:
        self.path = path
        self.watch_type = watch_type
        self.states: List[ZnodeState] = []

    def __call__(self, state: ZnodeState) -> None:
        self.states.append(state)

    @property
    def contents(self) -> List[bytes]:
        """The contents received, without repetitions."""
        different = [state for before, state in zip([None, *self.states], self.states) if state != before]
        return [state.contents for state in different if state.contents is not None]

    def wait(self, contents: bytes) -> ZnodeState:
        """The last state, as soon as it has these contents."""
        wait_for(f'{contents[:40]!r} of {self.path}', lambda: self.states and self.states[-1].contents == contents)
        return self.states[-1]

    def wait_absent(self) -> None:
        """Return as soon as the last state says that there is no znode."""
        wait_for(f'no {self.path}', lambda: self.states and self.states[-1].revision is None)


class Subscriber:
    """Subscriptions with a session and a loop of their own; the loop runs in a thread."""

    def __init__(self, hosts: str, retry_delay: float = 0.2, check_period: float = 2.0) -> None:
        self.loop = asyncio.new_event_loop()
        self.session = Session(Ensemble.parse(hosts), lambda _: None)
        self.subscriptions = Subscriptions(self.session, retry_delay, check_period)
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.call(self.session.start)
        self.call(self.subscriptions.start)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function on the loop. Returns its result."""
        result: Future[Any] = Future()

        def call() -> None:
            try:
                result.set_result(function(*args))
            except BaseException as error:
                result.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return result.result(40)

    def subscribe(self, path: str, watch_type: WatchType = DATA) -> Listener:
        """Subscribe a new listener to the znode."""
        listener = Listener(path, watch_type)
        self.call(self.subscriptions.subscribe, path, watch_type, listener)
        return listener

    def unsubscribe(self, listener: Listener) -> None:
        """End the listener's subscription."""
        self.call(self.subscriptions.unsubscribe, listener.path, listener.watch_type, listener)

    def close(self) -> None:
        """End the session, the loop and its thread."""
        self.call(self.session.stop).join(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        self.loop.close()


NewSubscriber = Callable[[str], Subscriber]


def ask_server(port: int, question: str) -> str:
    """A server's answer to a four-letter word."""
    with socket.create_connection(('127.0.0.1', port), 10) as connection:
        connection.sendall(question.encode())
        with connection.makefile('rb') as answer:
            return answer.read().decode()


def count_watches(port: int, below: str) -> int:
    """The number of watches that a server holds on znodes whose paths begin with `below`."""
    count, counts = 0, False
    for line in ask_server(port, 'wchp').splitlines():
        if re.match(r'\s+0x', line):
            count += counts
        else:
            counts = line.startswith(below)
    return count
