"""Problems with the configuration directory. Each is logged once when it begins, or
after RETRY seconds if it may pass by itself, and once when it ends."""

from __future__ import annotations

import errno
from typing import Dict, NamedTuple, Optional

from twitcher.log import get_logger
from twitcher.log_target import WARNING

log = get_logger(__name__)

RETRY = 1.0
"""Seconds until the first new attempt. A problem that is over by then is not logged."""
MAX_RETRY = 10.0
"""Maximum of the seconds between two attempts."""

_LASTING = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV}


class Problem(NamedTuple):
    """A problem, the `level` to log it at, and what to log when it ends, if anything.

    `is_lasting`: log it at once. `is_retried`: it may end without an event, so scan
    again.
    """

    message: str
    level: int = WARNING
    end: str = ''
    is_lasting: bool = False
    is_retried: bool = False


class _Known:
    def __init__(self, problem: Problem, since: float) -> None:
        self.problem = problem
        self.since = since
        self.is_logged = False


def is_lasting(error: OSError) -> bool:
    """Whether the error comes from permissions or the kind of file, rather than from a
    shortage or a fault that may pass."""
    return error.errno in _LASTING


class Problems:
    """The problems that the last scan met, by their subjects (mostly paths)."""

    def __init__(self) -> None:
        self._known: Dict[str, _Known] = {}

    def has_lasted(self, subject: str, now: float) -> bool:
        """Whether the subject has had a problem for RETRY seconds."""
        known = self._known.get(subject)
        return known is not None and now - known.since >= RETRY

    def carry_over(self, subject: str, found: Dict[str, Problem]) -> None:
        """Keep the subject's problem, if it had one, in the results of a scan that did
        not check it."""
        if subject in self._known:
            found.setdefault(subject, self._known[subject].problem)

    def update(self, found: Dict[str, Problem], now: float) -> Optional[float]:
        """Log what has begun and ended. Returns the seconds until the next scan is due;
        None if no problem needs one."""
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
