"""Trees of znodes: one that changes at random, what is in it, and what subscribers and runs make of it."""

from __future__ import annotations

import random
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError, NotEmptyError

from twitcher.znode import Revision, Tree


def znodes_below(client: KazooClient, path: str) -> Iterator[Tuple[str, Any]]:
    """Each znode of the tree that nobody is changing, with its stat."""
    yield path, client.exists(path)
    for name in client.get_children(path):
        yield from znodes_below(client, f'{path.rstrip("/")}/{name}')


def tree_of(client: KazooClient, path: str) -> Tree:
    """The tree, as a subscriber to it should see it."""
    return Tree({path: Revision(stat.czxid, stat.mzxid, stat.mtime) for path, stat in znodes_below(client, path)})


def apply_lines(lines: Iterable[str], known: Dict[str, int]) -> None:
    """Follow a tree by the lines of one run: `known` has, for each path, how often a line has named it."""
    paths: List[str] = []
    for line in lines:
        event, path = line.split('\t')
        paths.append(path)
        if event == 'deleted':
            del known[path]
        else:
            assert (path in known) or event == 'created', line
            known[path] = known.get(path, 0) + 1
    assert paths == sorted(set(paths))


class ChangingTree:
    """A tree below `root` whose znodes are created, changed and deleted at random.

    It is wide and deep, and names that have been used come back.
    """

    def __init__(self, client: KazooClient, root: str, size: int, seed: int = 1) -> None:
        self._client = client
        self._root = root
        self._random = random.Random(seed)
        self._paths = [root]
        self._size = size

    def grow(self) -> None:
        """Create znodes until it has its size."""
        self._client.ensure_path(self._root)
        while len(self._paths) < self._size:
            new = [self._new_path() for _ in range(min(200, self._size - len(self._paths)))]
            for answer in [self._client.create_async(path, b'0') for path in new]:
                try:
                    self._paths.append(answer.get())
                except Exception:  # a name that is taken
                    continue

    def change(self, count: int) -> None:
        """Make so many changes."""
        for _ in range(count):
            path = self._random.choice(self._paths)
            kind = self._random.random()
            try:
                if kind < 0.4:
                    self._client.set(path, b'%d' % self._random.randrange(10))
                elif kind < 0.7 and path != self._root:
                    self._client.delete(path)
                    self._paths.remove(path)
                elif kind < 0.8:
                    for each in [path, f'{path}/x', f'{path}/x/y']:
                        self._client.ensure_path(each)
                        self._paths += [each] if each not in self._paths else []
                else:
                    self._paths.append(self._client.create(self._new_path(), b'0'))
            except (NoNodeError, NotEmptyError):
                continue
            except Exception as error:
                assert type(error).__name__ == 'NodeExistsError', error

    def _new_path(self) -> str:
        parent = self._root if self._random.random() < 0.5 else self._random.choice(self._paths)
        return f'{parent.rstrip("/")}/{self._random.randrange(self._size)}'
