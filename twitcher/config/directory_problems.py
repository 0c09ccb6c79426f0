"""Problems with the configuration directory: logs each one once when it has lasted for a moment, and its end."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Dict, Optional

from twitcher.log import get_logger
from twitcher.log_target import WARNING

log = get_logger(__name__)

RETRY = 1.0
"""Seconds until what could not be read is tried again for the first time; what passes before that is not logged."""
MAX_RETRY = 10.0
"""Seconds between two attempts at most."""

_LASTING = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV}


@dataclass(frozen=True)
class Problem:
    """What is wrong with something, `level` to log it at, and what to log at its end, if anything.

    `is_lasting`: it is logged at once. `is_retried`: it may pass without an event.
    """

    message: str
    level: int = WARNING
    end: str = ''
    is_lasting: bool = False
    is_retried: bool = False


@dataclass
class _Known:
    problem: Problem
    since: float
    is_logged: bool = False


def is_lasting(error: OSError) -> bool:
    """Whether the error is one of permissions or of what a file is, rather than a shortage or a fault that may pass."""
    return error.errno in _LASTING


class Problems:
    """Those that the last scan met, by what has them."""

    def __init__(self) -> None:
        self._known: Dict[str, _Known] = {}

    def has_lasted(self, subject: str, now: float) -> bool:
        """Whether the subject has had a problem for longer than a moment."""
        known = self._known.get(subject)
        return known is not None and now - known.since >= RETRY

    def carry_over(self, subject: str, found: Dict[str, Problem]) -> None:
        """Add the subject's problem, if it had one, to what a scan found that did not look again."""
        if subject in self._known:
            found.setdefault(subject, self._known[subject].problem)

    def update(self, found: Dict[str, Problem], now: float) -> Optional[float]:
        """Log what has begun and ended. Returns the seconds until the next scan should be made; None if it need not."""
        for subject in [subject for subject in self._known if subject not in found]:
            known = self._known.pop(subject)
            if known.is_logged and known.problem.end:
                log.info('%s: %s', subject, known.problem.end)
        waits = []
        for subject, problem in found.items():
            known = self._known.setdefault(subject, _Known(problem, now))
            if known.problem != problem:
                known.problem, known.is_logged = problem, False
            age = now - known.since
            if not known.is_logged and (problem.is_lasting or age >= RETRY):
                known.is_logged = True
                log.log(problem.level, '%s: %s', subject, problem.message)
            if not known.is_logged:
                waits.append(RETRY - age)
            elif problem.is_retried:
                waits.append(min(max(age, RETRY), MAX_RETRY))
        return min(waits, default=None)
