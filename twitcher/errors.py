"""The errors that Twitcher raises on purpose.

Each carries one line for an operator: what could not be done, to what, why, and what is allowed. Nothing else than these
is expected to reach a command line's main(), which prints the line and exits non-zero.
"""

from __future__ import annotations


class TwitcherError(Exception):
    """The root of every error that is ours."""


class UsageError(TwitcherError):
    """A command line cannot be used: an option, a host list, a directory that is not there."""


class PidFileError(TwitcherError):
    """The pidfile is held by another daemon, or cannot be written."""


class LockedError(TwitcherError):
    """Another daemon serves the same configuration."""


class SpecError(TwitcherError):
    """An argument of RegisterWatch or Exec is not allowed; the message names it, its value and what is."""


class ConfigError(TwitcherError):
    """A .twc file did not load; the message begins with its path and, where one is known, the line."""


class StopError(TwitcherError):
    """Told to stop in the midst of something that does not return."""


class SpawnError(TwitcherError):
    """A run could not be started. `transient`: the machine was the reason, not the action, and it is tried again.

    `is_shortage`: the machine was out of descriptors, processes or memory.
    """

    def __init__(self, message: str, transient: bool, is_shortage: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.is_shortage = is_shortage


class UnreachableError(TwitcherError):
    """ZooKeeper did not answer in the time that was allowed."""
