"""Patience for what can be observed, and the file in which actions leave their trace."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, List, Optional, TypeVar

PATIENCE = 40.0
"""Seconds after which something that has to come is taken to be missing: long, for loaded machines."""

T = TypeVar('T')


def wait_for(what: str, probe: Callable[[], Optional[T]], patience: float = PATIENCE) -> T:
    """Return the first true value of the probe; fail with `what` was waited for."""
    limit = time.monotonic() + patience
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f'waited {patience:g} s for {what}')
        time.sleep(0.01)


class Trace:
    """A file that actions append lines to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def lines(self) -> List[str]:
        """The complete lines so far."""
        if not self.path.exists():
            return []
        text = self.path.read_text(errors='surrogateescape')
        return text[:text.rfind('\n') + 1].splitlines()

    def wait(self, count: int) -> List[str]:
        """The lines, as soon as there are `count` of them or more."""
        try:
            wait_for(f'{count} lines in {self.path.name}', lambda: len(self.lines()) >= count)
        except AssertionError as error:
            raise AssertionError(f'{error}; there are: {self.lines()}') from None
        return self.lines()

    def wait_for_line(self, line: str) -> List[str]:
        """The lines, as soon as this is one of them."""
        wait_for(f'{line!r} in {self.path.name}', lambda: line in self.lines())
        return self.lines()
