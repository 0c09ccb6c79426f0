"""The errors that Twitcher raises on purpose.

Each has one line for an operator: what could not be done, to what, why, and what is
allowed. Only these are expected to reach the main() of a program, which prints the line
and exits non-zero.
"""

from __future__ import annotations


class TwitcherError(Exception):
    """The base class of all our errors."""


class UsageError(TwitcherError):
    """The command line is wrong: an option, a host list, a missing directory."""


class PidFileError(TwitcherError):
    """Another daemon holds the pidfile, or it cannot be written."""


class LockedError(TwitcherError):
    """Another daemon serves the same configuration."""


class SpecError(TwitcherError):
    """An argument of RegisterWatch or Exec is wrong. The message gives the argument,
    its value and what is allowed."""


class ConfigError(TwitcherError):
    """A .twc file did not load. The message begins with its path and, if known, the
    line."""


class StopError(TwitcherError):
    """SIGTERM or SIGINT arrived while a file was loading."""


class SpawnError(TwitcherError):
    """A run could not be started. `transient`: because of the machine, not of the
    action, so try again. `is_shortage`: the machine is out of descriptors, processes or
    memory."""

    def __init__(self, message: str, transient: bool, is_shortage: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.is_shortage = is_shortage


class UnreachableError(TwitcherError):
    """ZooKeeper did not answer in time."""
