"""The states of a node's reads, with no server: who may read it, and whether it is read once more."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import List, Optional, cast

import pytest

from twitcher.znode import WatchType
from twitcher.zookeeper.node import MAX_IN_FLIGHT, Node, Reads
from twitcher.zookeeper.session import Session


@pytest.fixture
def session() -> Session:
    """One that has its first connection, and nothing else."""
    return cast(Session, SimpleNamespace(connection=1))


@pytest.fixture
def reads(session: Session) -> Reads:
    """The reads of the `session` fixture."""
    return Reads(session)


@pytest.fixture
def node() -> Node:
    """A node that has never been read."""
    return Node('/a', WatchType.DATA)


def test_a_node_that_nothing_happens_to_is_read_once(reads: Reads, node: Node) -> None:
    assert reads.is_idle(node) and not reads.note_change(node)
    assert reads.begin(node) == 1
    assert not reads.is_idle(node)
    assert not reads.end(node)
    assert reads.is_idle(node) and reads.begin(node) == 1


@pytest.mark.parametrize('times', [1, 3])
@pytest.mark.parametrize('event', ['begin', 'note_change'])
def test_what_happens_during_a_read_makes_one_more_however_often(reads: Reads, node: Node, event: str, times: int) -> None:
    reads.begin(node)
    for _ in range(times):
        assert getattr(reads, event)(node) == (None if event == 'begin' else True)
    assert reads.end(node)
    assert reads.begin(node) == 1
    assert not reads.end(node)


def test_a_new_connection_ends_all_reads_of_the_last_one(reads: Reads, node: Node, session: Session) -> None:
    reads.begin(node)
    reads.note_change(node)
    session.connection = 2
    assert reads.is_idle(node) and not reads.note_change(node)
    assert reads.begin(node) == 2
    assert not reads.end(node)


def test_reads_are_used_up_by_many_nodes_and_not_by_those_of_an_earlier_connection(reads: Reads, session: Session) -> None:
    nodes = [Node(f'/{number}', WatchType.DATA) for number in range(MAX_IN_FLIGHT)]
    for node in nodes:
        assert not reads.are_used_up()
        reads.begin(node)
        reads.begin(node)
    assert reads.are_used_up()
    reads.end(nodes[0])
    assert not reads.are_used_up()
    reads.begin(nodes[0])
    session.connection = 2
    assert not reads.are_used_up()
    reads.begin(nodes[0])
    assert not reads.are_used_up()


def test_of_many_threads_one_may_read_a_node(reads: Reads, node: Node) -> None:
    for _ in range(200):
        start = threading.Barrier(4)
        begun: List[Optional[int]] = []

        def begin(start: threading.Barrier = start, begun: List[Optional[int]] = begun) -> None:
            start.wait()
            begun.append(reads.begin(node))

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(begun, key=str) == [1, None, None, None]
        assert reads.end(node)
