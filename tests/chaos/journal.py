"""The journal of the fault harness: what it does, a fact a line, for the checker."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any


def now() -> float:
    """Seconds since the boot, as /proc/uptime has them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """Appends to the file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open('a')
        self._lock = threading.Lock()

    def note(self, kind: str, **about: Any) -> None:
        """Note a fact; it has happened now."""
        with self._lock:
            self._file.write(json.dumps({'kind': kind, 'at': now(), **about}) + '\n')
            self._file.flush()
