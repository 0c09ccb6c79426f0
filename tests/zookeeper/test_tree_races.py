"""What a tree makes of znodes that go and come back while they are read, in an order that the test decides."""

from __future__ import annotations

import asyncio
from typing import Callable, Dict, List, Tuple, cast

import pytest

from tests.support.subscriber import CHILDREN, DATA
from twitcher.znode import Revision, Tree, WatchType, ZnodeState
from twitcher.zookeeper.node import Listener
from twitcher.zookeeper.subscriptions import Subscriptions
from twitcher.zookeeper.tree import MAX_READING, TreeSubscription


class FakeSubscriptions:
    """Delivers what the test says. `asked` are the subscriptions that still wait for their first state."""

    def __init__(self) -> None:
        self._listeners: Dict[Tuple[str, WatchType], Listener] = {}
        self.asked: List[Tuple[str, WatchType]] = []
        self._zxid = 0

    def subscribe(self, path: str, watch_type: WatchType, listener: Listener, awaits_creation: bool = True) -> None:
        """As Subscriptions.subscribe."""
        assert (path, watch_type) not in self._listeners
        self._listeners[path, watch_type] = listener
        self.asked.append((path, watch_type))

    def unsubscribe(self, path: str, watch_type: WatchType, listener: Listener) -> None:
        """As Subscriptions.unsubscribe."""
        assert self._listeners.pop((path, watch_type)) == listener
        self.asked = [asked for asked in self.asked if asked != (path, watch_type)]

    def read(self, path: str, watch_type: WatchType, contents: bytes = b'') -> None:
        """It was read, and is another znode than before."""
        self._zxid += 1
        self._read(path, watch_type, ZnodeState(Revision(self._zxid, self._zxid, 0), contents, 0))

    def read_absent(self, path: str, watch_type: WatchType) -> None:
        """It was not there."""
        self._read(path, watch_type, ZnodeState())

    def read_hidden(self, path: str, watch_type: WatchType) -> None:
        """It may not be read."""
        self._read(path, watch_type, ZnodeState(Revision(1, 1, 1)))

    def _read(self, path: str, watch_type: WatchType, state: ZnodeState) -> None:
        self.asked = [asked for asked in self.asked if asked != (path, watch_type)]
        self._listeners[path, watch_type](state)


class Follower:
    """A tree below /t, and the paths of the znodes in its states. So many `failures` of its listener are to come."""

    def __init__(self) -> None:
        self.znodes = FakeSubscriptions()
        self.states: List[List[str]] = []
        self.failures = 0
        self._tree = TreeSubscription(cast(Subscriptions, self.znodes), '/t', self._on_state)

    def close(self) -> None:
        """End it."""
        self._tree.close()

    def _on_state(self, state: ZnodeState) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError('the test says so')
        self.states.append(sorted(state.contents) if isinstance(state.contents, Tree) else [])

    async def next(self) -> List[str]:
        """The next state."""
        count = len(self.states)
        while len(self.states) == count:
            await asyncio.sleep(0.001)
        return self.states[-1]

    def read_all(self, *paths: str) -> None:
        """Read each znode, and that it has no children."""
        for path in paths:
            self.znodes.read(path, DATA)
            self.znodes.read(path, CHILDREN)


def on_a_loop(test: Callable[[], object]) -> Callable[[], None]:
    """Run an async test."""
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 40))  # type: ignore[arg-type]
    run.__name__ = test.__name__
    return run


@on_a_loop
async def test_there_is_no_state_before_all_has_been_read() -> None:
    tree = Follower()
    znodes = tree.znodes
    znodes.read('/t', DATA)
    znodes.read('/t', CHILDREN, b'a\nb\n')
    tree.read_all('/t/a')
    znodes.read('/t/b', DATA)
    await asyncio.sleep(0.1)
    assert tree.states == []
    znodes.read('/t/b', CHILDREN, b'c\n')
    znodes.read_absent('/t/b/c', DATA)
    assert await tree.next() == ['/t', '/t/a', '/t/b']
    assert znodes.asked == []


@on_a_loop
async def test_a_znode_that_was_gone_is_read_again_when_its_parent_lists_it_again() -> None:
    tree = Follower()
    znodes = tree.znodes
    znodes.read('/t', DATA)
    znodes.read('/t', CHILDREN, b'a\n')
    znodes.read_absent('/t/a', DATA)
    assert await tree.next() == ['/t']
    assert znodes.asked == []
    znodes.read('/t', CHILDREN, b'a\n')
    assert znodes.asked == [('/t/a', DATA)]
    tree.read_all('/t/a')
    assert await tree.next() == ['/t', '/t/a']


@on_a_loop
async def test_children_that_were_gone_are_read_again_when_their_znode_is_there_again() -> None:
    tree = Follower()
    znodes = tree.znodes
    znodes.read('/t', DATA)
    znodes.read('/t', CHILDREN, b'a\n')
    znodes.read('/t/a', DATA)
    znodes.read('/t/a', CHILDREN, b'b\n')
    tree.read_all('/t/a/b')
    assert await tree.next() == ['/t', '/t/a', '/t/a/b']
    znodes.read_absent('/t/a', CHILDREN)
    znodes.read('/t/a', DATA)  # it was created again between the two reads
    assert znodes.asked == [('/t/a', CHILDREN)]
    znodes.read('/t/a', CHILDREN, b'c\n')
    tree.read_all('/t/a/c')
    assert await tree.next() == ['/t', '/t/a', '/t/a/c']


@pytest.mark.parametrize('watch_type', [DATA, CHILDREN])
def test_what_cannot_be_read_any_more_stays(watch_type: WatchType) -> None:
    async def follow() -> None:
        tree = Follower()
        znodes = tree.znodes
        znodes.read('/t', DATA)
        znodes.read('/t', CHILDREN, b'a\nb\n')
        tree.read_all('/t/a', '/t/b')
        await tree.next()
        znodes.read_hidden('/t', watch_type)
        znodes.read_absent('/t/b', DATA)
        assert await tree.next() == ['/t', '/t/a']

    asyncio.run(asyncio.wait_for(follow(), 40))


@on_a_loop
async def test_a_large_tree_is_read_in_parts_so_that_others_have_their_turn() -> None:
    tree = Follower()
    znodes = tree.znodes
    names = [f'{number:04}' for number in range(1000)]
    znodes.read('/t', DATA)
    znodes.read('/t', CHILDREN, ''.join(f'{name}\n' for name in names).encode())
    most = 0
    while znodes.asked:
        most = max(most, len(znodes.asked))
        znodes.read(*znodes.asked[0])
    assert most == MAX_READING
    assert await tree.next() == ['/t', *(f'/t/{name}' for name in names)]


@on_a_loop
async def test_what_is_gone_before_it_is_read_is_not_read() -> None:
    tree = Follower()
    znodes = tree.znodes
    znodes.read('/t', DATA)
    znodes.read('/t', CHILDREN, ''.join(f'{number:04}\n' for number in range(1000)).encode())
    znodes.read('/t', CHILDREN, b'0999\n')
    assert znodes.asked == [('/t/0999', DATA)]
    tree.read_all('/t/0999')
    assert await tree.next() == ['/t', '/t/0999']
    tree.close()
    assert znodes.asked == []


def test_a_change_does_not_wait_for_ever_for_what_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('twitcher.zookeeper.tree.MAX_WAIT', 0.0)

    async def follow() -> None:
        tree = Follower()
        znodes = tree.znodes
        znodes.read('/t', DATA)
        znodes.read('/t', CHILDREN, b'a\n')
        await asyncio.sleep(0.1)
        assert tree.states == []  # the first state is a complete one
        tree.read_all('/t/a')
        assert await tree.next() == ['/t', '/t/a']
        znodes.read('/t', CHILDREN, b'a\nb\nc\n')
        tree.read_all('/t/c')
        assert await tree.next() == ['/t', '/t/a', '/t/c']
        znodes.read_absent('/t', DATA)
        assert await tree.next() == []
        znodes.read('/t', DATA)
        znodes.read('/t', CHILDREN, b'a\n')
        await asyncio.sleep(0.1)
        assert tree.states[-1] == []
        tree.read_all('/t/a')
        assert await tree.next() == ['/t', '/t/a']

    asyncio.run(asyncio.wait_for(follow(), 40))


def test_a_state_whose_handling_failed_is_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('twitcher.zookeeper.tree.RETRY_DELAY', 0.01)

    async def follow() -> None:
        tree = Follower()
        tree.failures = 2
        tree.read_all('/t')
        assert await tree.next() == ['/t']
        assert tree.failures == 0

    asyncio.run(asyncio.wait_for(follow(), 40))
