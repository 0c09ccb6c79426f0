"""Config files for a running daemon: what to write, and when it has been seen."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

from tests.support.actions import until
from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.waiting import Trace


def watch(znode: str, trace: Trace, name: str, *more: str) -> str:
    """A RegisterWatch whose action appends its name, the event and the contents."""
    command = f'echo {name} $TWITCHER_EVENT `cat` >> {trace}'
    return f"RegisterWatch({', '.join([repr(znode), f'Exec({command!r})', *more])})\n"


def slow(znode: str, trace: Trace, gate: Path, name: str = 'slow', *more: str) -> str:
    """A RegisterWatch whose action says begin, waits for the gate, and says end."""
    command = f'echo {name} begin `cat` >> {trace}; {until(gate)}; echo {name} end >> {trace}'
    return f"RegisterWatch({', '.join([repr(znode), f'Exec({command!r})', *more])})\n"


def hup(twitcher: Twitcher) -> None:
    """SIGHUP, and wait until it has been handled."""
    before = len(twitcher.log())
    os.kill(twitcher.pid, signal.SIGHUP)
    twitcher.wait_log('SIGHUP: rereading', after=before)


def fence(twitcher: Twitcher, ensemble: Ensemble) -> None:
    """Return when the config directory, and then ZooKeeper, have been seen as they are now."""
    name = f'seen-{uuid.uuid4().hex}.twc'
    twitcher.config(name, '')
    twitcher.wait_log(f'{name}: loaded, 0 watches')
    twitcher.fence(ensemble)
