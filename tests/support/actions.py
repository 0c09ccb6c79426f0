"""Actions of configs under test, as texts of the configuration language."""

from __future__ import annotations

from pathlib import Path
from typing import Union

from tests.support.waiting import Trace


def until(gate: Union[Path, str], pause: float = 0.05) -> str:
    """A shell command that ends when there is a file of this name; it looks after each pause, in seconds."""
    return f'until [ -e {gate} ]; do sleep {pause}; done'


def echo(trace: Trace) -> str:
    """Appends the contents to the trace."""
    return f"Exec('echo `cat` >> {trace}')"


def slow(trace: Trace, gate: Path) -> str:
    """Appends `begin` and the contents, waits for the gate, and appends `end`."""
    return f"Exec('echo begin `cat` >> {trace}; {until(gate)}; echo end >> {trace}')"


def endless(trace: Trace) -> str:
    """Appends the contents to the trace, and goes on until it is killed."""
    return f"Exec('echo `cat` >> {trace}; exec sleep 1000')"


def with_deaf_child(trace: Trace, gate: Path) -> str:
    """If the contents are 0, a child that ignores SIGTERM appends `ready`, waits for the gate, and appends `gone`; its
    parent, the leader, ends at SIGTERM. If they are anything else, appends `next`."""
    child = f"trap '' TERM; echo ready >> {trace}; {until(gate)}; echo gone >> {trace}"
    command = f"case `cat` in 0) ({child}) & trap 'exit 0' TERM; wait;; *) echo next >> {trace};; esac"
    return f'Exec({command!r})'
