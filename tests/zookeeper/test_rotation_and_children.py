"""Parts of the subscriptions that need no server: whose turn a check is, and how a list of children becomes lines."""

from __future__ import annotations

import struct
from typing import Dict, List

import pytest

from twitcher.zookeeper.children import sorted_lines
from twitcher.zookeeper.rotation import MAX_PERIOD, Rotation


@pytest.mark.parametrize('count', [1, 7, 120])
def test_each_of_few_members_has_its_turn_once_in_a_period(count: int) -> None:
    rotation = Rotation(lambda: list(range(count)), 60, 2)
    assert sorted(member for _ in range(6) for member in rotation.take(10)) == list(range(count))


@pytest.mark.parametrize('count, most', [(600, 20), (1800, 20), (10_000, 112)])
def test_the_turns_of_many_members_are_spread_and_each_comes_within_the_longest_period(count: int, most: int) -> None:
    rotation = Rotation(lambda: list(range(count)), 60, 2)
    turns: Dict[int, int] = {}
    ticks: List[int] = []
    while len(turns) < count:
        taken = rotation.take(10)
        ticks.append(len(taken))
        for member in taken:
            turns[member] = turns.get(member, 0) + 1
    assert max(turns.values()) == 1
    assert max(ticks) <= most
    assert len(ticks) * 10 <= MAX_PERIOD + 10


def test_members_that_come_and_go_are_taken_into_account_in_the_next_round() -> None:
    members = ['a']
    rotation = Rotation(lambda: members, 60, 2)
    assert [rotation.take(30), rotation.take(30)] == [[], ['a']]
    members = []
    assert rotation.take(600) == []
    members = ['b']
    assert rotation.take(60) == ['b']


@pytest.mark.parametrize('names', [[], ['a'], ['b', 'ä', 'a', '10', '9', '\U0001f600', '\uffee', 'a-b', 'a.b', 'ab'],
                                   [f'{number * 7919 % 20_000:05d}' for number in range(20_000)]],
                         ids=['none', 'one', 'odd', 'many'])
def test_children_become_lines_in_the_order_of_their_code_points(names: List[str]) -> None:
    sent = b''.join(struct.pack('!i', len(name.encode())) + name.encode() for name in names)
    assert sorted_lines(memoryview(sent)).decode() == ''.join(f'{name}\n' for name in sorted(names))
