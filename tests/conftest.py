"""The fixtures: one ZooKeeper server for each test process, and for each test its own part of it and its own daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from tests.harness import Ensemble, Trace, Twitcher
from twitcher.devel import ThrowAwayServer


@pytest.fixture(scope='session')
def shared_server() -> Iterator[ThrowAwayServer]:
    """A server for tests that leave it alone."""
    server = ThrowAwayServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_server() -> Iterator[ThrowAwayServer]:
    """A server for a test that does things to it. Sessions expire there after half a second."""
    server = ThrowAwayServer({'tickTime': '100', 'minSessionTimeout': '500', 'maxSessionTimeout': '30000'})
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def ensemble(shared_server: ThrowAwayServer) -> Iterator[Ensemble]:
    """A part of the shared server."""
    part = Ensemble(shared_server.hosts)
    yield part
    part.close()


@pytest.fixture
def twitcher(tmp_path: Path, ensemble: Ensemble) -> Iterator[Twitcher]:
    """A daemon, not started yet, for the `ensemble` fixture."""
    daemon = Twitcher(tmp_path, ensemble.hosts)
    yield daemon
    daemon.close()


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """A file for actions to write to."""
    return Trace(tmp_path / 'trace')
