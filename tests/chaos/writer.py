"""The writer of the fault harness: it changes the znodes, and notes what it is about to
write and what has become of it."""

from __future__ import annotations

import random
import threading
from itertools import count
from typing import Any, Dict, List, Optional, Sequence

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NodeExistsError, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from tests.chaos.configs import UNASKED, WATCHES
from tests.chaos.world import World, contents_of
from tests.support.ensemble import connected

AT_RANDOM = tuple(name for name in WATCHES if name not in UNASKED)
_PATIENCE = 15.0
"""Seconds after which the outcome of a request is taken to be unknown."""
_BURST_PAUSE = 0.02
"""Seconds: such that most of the writes are seen on their own."""
_TROUBLE = (KazooException, KazooTimeoutError)


class Writer:
    """Writes through a client of its own, not through the proxies. Contents are
    numbers, each of which comes once.

    At random it writes to the znodes of the watches with these names.
    """

    def __init__(self, world: World, random_numbers: random.Random, names: Sequence[str] = AT_RANDOM) -> None:
        self._world = world
        self._random = random_numbers
        self._names = names
        self._numbers = count(1)
        self._children: List[str] = []
        self._is_told_to_stop = threading.Event()
        self._threads: List[threading.Thread] = []
        self._client = KazooClient(world.quorum.hosts + world.chroot, timeout=2)
        self._client.start(60)
        self.updates = 0
        for name in WATCHES:
            self._client.create(f'/{name}', b'')
            self.write(name)

    def close(self) -> None:
        """Leave."""
        self.pause()
        self._client.stop()
        self._client.close()

    def go_on(self) -> None:
        """Write at random times, in a thread, until told to pause."""
        self._is_told_to_stop.clear()
        self._begin(self._write_at_random)

    def burst(self, name: str, number: int) -> None:
        """Write so many times to the znode of a watch, fast, in a thread, until told to
        pause."""
        self._begin(self._write_often, name, number)

    def pause(self) -> None:
        """Write no more."""
        self._is_told_to_stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def write(self, name: str) -> None:
        """Change the znode of a watch."""
        number = next(self._numbers)
        if WATCHES[name].watches_children:
            self._change_children(number)
            return
        contents = str(number)
        self._world.journal.note('writing', watch=name, contents=contents)
        zxid = self._put(f'/{name}', contents)
        self._world.journal.note('written', watch=name, contents=contents, zxid=zxid)

    def set_acl(self, name: str, acl: Any) -> bool:
        """Say who may do what with the znode of a watch; whether that was done."""
        return not isinstance(self._request(self._client.set_acls_async, f'/{name}', acl), Exception)

    def contents(self) -> Dict[str, str]:
        """What is in the znodes, as their watches' runs name it; those that are missing
        are made anew."""
        while True:
            try:
                return contents_of(self._world)
            except NoNodeError:  # a delete whose answer was lost, or that was carried out late
                for name in WATCHES:
                    if not self._exists(name):
                        self.write(name)

    def _exists(self, name: str) -> bool:
        with connected(self._world.quorum.hosts + self._world.chroot) as client:
            client.sync('/')
            return client.exists(f'/{name}') is not None

    def _begin(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _write_at_random(self) -> None:
        while not self._is_told_to_stop.wait(self._random.choice([0.02, 0.1, 0.3, 0.6])):
            name = self._random.choice(self._names)
            pause = self._random.choice([0, 0.15])
            for _ in range(self._random.choice([1, 1, 1, 4])):
                self.write(name)
                self._is_told_to_stop.wait(pause)
            if name == 'q-quick' and self._random.random() < 0.2:
                self._request(self._client.delete_async, f'/{name}')

    def _write_often(self, name: str, number: int) -> None:
        for _ in range(number):
            self.write(name)
            if self._is_told_to_stop.wait(_BURST_PAUSE):
                return

    def _put(self, path: str, contents: str) -> Optional[int]:
        """Set or create; the transaction, if it is known that and when it happened."""
        data = f'{contents}\n'.encode()
        outcome = self._request(self._client.set_async, path, data)
        if isinstance(outcome, NoNodeError):
            outcome = self._request(self._client.create_async, path, data)
        if not isinstance(outcome, Exception):
            self.updates += 1
        if hasattr(outcome, 'mzxid'):
            return int(outcome.mzxid)
        found = self._request(self._client.get_async, path)
        if isinstance(found, tuple) and found[0] == data:
            self.updates += isinstance(outcome, Exception)
            return int(found[1].mzxid)
        return None

    def _change_children(self, number: int) -> None:
        name = f'n{number:06d}'
        self._children.append(name)
        self._request(self._client.create_async, f'/children/{name}')
        self.updates += 1
        if len(self._children) > 3:
            self._request(self._client.delete_async, f'/children/{self._children.pop(0)}')

    def _request(self, request: Any, *arguments: Any) -> Any:
        """The answer, or the error instead of it."""
        try:
            return request(*arguments).get(timeout=_PATIENCE)
        except (*_TROUBLE, NodeExistsError) as error:
            return error
