"""A configuration directory that is followed without a daemon, on a real loop, with real files and real inotify."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Union

from tests.support.waiting import PATIENCE
from twitcher.config.directory import Changes, ConfigDir


class FollowedDirectory:
    """A ConfigDir on a loop of its own, which runs only inside `until`, and what it has reported so far."""

    def __init__(self, root: Path, known: Sequence[str] = ()) -> None:
        self.root = root
        self.files: Dict[str, Union[bytes, str]] = {}
        self.reports: List[str] = []
        self.errors: List[Any] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self.configs = ConfigDir(str(root), self._changed, known)
        self._fences = 0

    def _changed(self, changes: Changes) -> None:
        for path in changes.gone:
            self.files.pop(os.path.relpath(path, self.root), None)
            self.reports.append('-' + os.path.relpath(path, self.root))
        for path, text in changes.texts.items():
            self.files[os.path.relpath(path, self.root)] = text if isinstance(text, bytes) else str(text)
            self.reports.append('+' + os.path.relpath(path, self.root))

    def start(self) -> FollowedDirectory:
        async def start() -> None:
            self.configs.start()

        self.loop.run_until_complete(start())
        return self

    def until(self, what: str, probe: Callable[[], object], patience: float = PATIENCE) -> None:
        """Run the loop until the probe is true."""
        async def poll() -> None:
            limit = time.monotonic() + patience
            while not probe():
                assert time.monotonic() < limit, f'waited {patience:g} s for {what}; {self.reports}, {self.files}'
                assert not self.errors
                await asyncio.sleep(0.01)

        self.loop.run_until_complete(poll())

    def until_it_has(self, patience: float = PATIENCE, /, **names: str) -> None:
        """Run the loop until exactly these files (less the .twc) have been reported, with these texts."""
        expected = {f'{name}.twc': text.encode() for name, text in names.items()}
        self.until(str(expected), lambda: {name: text for name, text in self.files.items() if name != 'fence.twc'} == expected,
                   patience)

    def until_all_is_seen(self) -> None:
        """Run the loop until what has happened before this call has been looked at."""
        self._fences += 1
        token = b'%d' % self._fences
        replace(self.root / 'fence.twc', token)
        self.until('the fence', lambda: self.files.get('fence.twc') == token)
        self.reports = [report for report in self.reports if 'fence' not in report]

    def close(self) -> None:
        self.configs.stop()
        self.loop.close()


def replace(path: Path, text: Union[str, bytes]) -> None:
    """Write it as an editor does that renames."""
    new = path.with_name('.new')
    new.write_bytes(text if isinstance(text, bytes) else text.encode())
    new.rename(path)
