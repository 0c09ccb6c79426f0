"""The fixtures: one ZooKeeper server for each test process, and for each test its own part of it and its own daemon."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Callable, Iterator, List, Optional

import pytest

from tests.support.daemon import NewDaemon, Twitcher
from tests.support.ensemble import Ensemble
from tests.support.followed_directory import FollowedDirectory
from tests.support.proxy import NewProxy, Proxy
from tests.support.waiting import Trace
from twitcher.log import add_handler, set_levels
from twitcher.log_target import Record
from twitcher.zookeeper.throwaway import ThrowAwayServer


def _forward(record: Record) -> None:
    """Log a record of ours by `logging` as well, where pytest looks for it and sets the levels."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(logging.makeLogRecord({
            'name': record.name, 'levelno': record.levelno, 'levelname': logging.getLevelName(record.levelno),
            'msg': record.getMessage().encode('utf-8', 'backslashreplace').decode(), 'exc_info': record.exc_info}))
    if record.on_delivered:
        record.on_delivered()


def pytest_configure() -> None:
    """Let tests interrupt what they start, also when a shell runs us in the background: it has SIGINT ignored, and so would
    have all our children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope='session', autouse=True)
def log_for_pytest() -> None:
    """What the parts of Twitcher log that run in the test's own process is in `caplog`."""
    add_handler(_forward)
    set_levels(verbose=True, debug=True)
    logging.getLogger().setLevel(logging.WARNING)


@contextlib.contextmanager
def _serving(longest_session: Optional[int] = None) -> Iterator[ThrowAwayServer]:
    """A server for the length of a with block; one whose sessions expire after so many milliseconds, or earlier."""
    short = {'tickTime': '100', 'minSessionTimeout': '500', 'maxSessionTimeout': str(longest_session)}
    server = ThrowAwayServer(short if longest_session else {})
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope='session')
def shared_server() -> Iterator[ThrowAwayServer]:
    """A server for tests that leave it alone."""
    with _serving() as server:
        yield server


@pytest.fixture
def own_server() -> Iterator[ThrowAwayServer]:
    """A server for a test that does things to it. A session may be as short as half a second there."""
    with _serving(30000) as server:
        yield server


@pytest.fixture
def short_server() -> Iterator[ThrowAwayServer]:
    """A server for a test whose sessions are to expire: they do so after a second and a half, whatever a client asks for."""
    with _serving(1500) as server:
        yield server


@pytest.fixture
def ensemble(shared_server: ThrowAwayServer) -> Iterator[Ensemble]:
    """A part of the shared server."""
    with contextlib.closing(Ensemble(shared_server.hosts)) as part:
        yield part


@pytest.fixture
def twitcher(tmp_path: Path, ensemble: Ensemble) -> Iterator[Twitcher]:
    """A daemon, not started yet, for the `ensemble` fixture."""
    with contextlib.closing(Twitcher(tmp_path, ensemble.hosts)) as daemon:
        yield daemon


@pytest.fixture
def new_daemon(tmp_path: Path) -> Iterator[NewDaemon]:
    """Makes a daemon, not started yet, for a host list."""
    with contextlib.ExitStack() as stack:
        yield lambda hosts: stack.enter_context(contextlib.closing(Twitcher(tmp_path, hosts)))


@pytest.fixture
def new_proxy() -> Iterator[NewProxy]:
    """Makes a proxy in front of a server."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(contextlib.closing(Proxy(server.port)))


@pytest.fixture
def proxy(new_proxy: NewProxy, own_server: ThrowAwayServer) -> Proxy:
    """A proxy in front of the `own_server` fixture."""
    return new_proxy(own_server)


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """A file for actions to write to."""
    return Trace(tmp_path / 'trace')


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that other users may enter, three levels below /tmp."""
    top = Path(tempfile.mkdtemp(prefix='twitcher-test-', dir='/tmp'))
    top.chmod(0o755)
    (top / 'srv/etc').mkdir(parents=True)
    try:
        yield top / 'srv/etc'
    finally:
        os.seteuid(0)
        shutil.rmtree(top)


@pytest.fixture
def followed(root: Path) -> Iterator[FollowedDirectory]:
    """The directory `root`, followed as soon as it is started."""
    with contextlib.closing(FollowedDirectory(root)) as directory:
        yield directory


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file; as soon as it exists, slow actions end."""
    return tmp_path / 'gate'


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], List[str]]:
    """What has been warned of so far, or worse."""
    return lambda: [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
