"""The messages from the daemon to twitcher-output.

Each is one packet of a SOCK_SEQPACKET socket; there are no answers.

    Pipe   carries a descriptor: the reading end of a run's pipe, not to be read yet
    Pid    the process of the run
    Start  read the pipe: the line "pid N started" has been written, or there is none

A run sends them in this order, but may end after any of them. The end of the daemon,
which closes the socket, means Start for all pipes.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Union

MAX_PACKET = 65536
"""Bytes of the largest packet: the size of the receiver's buffer."""
MAX_DESCRIPTION = 2000
"""Characters of the longest description; JSON needs up to twelve bytes for one."""


class Pipe(NamedTuple):
    """A new pipe, its number, which is used once, and the label of its lines."""

    number: int
    description: str


class Pid(NamedTuple):
    """The pid of the run that writes to the pipe."""

    number: int
    pid: int


class Start(NamedTuple):
    """The pipe may be read."""

    number: int


Message = Union[Pipe, Pid, Start]
_TYPES = {'Pipe': (Pipe, (int, str)), 'Pid': (Pid, (int, int)), 'Start': (Start, (int,))}


def encode(message: Message) -> bytes:
    """Return the packet for a message."""
    return json.dumps([type(message).__name__, *message]).encode()


def decode(packet: bytes) -> Message:
    """Return the message in a packet. Raises ValueError if it holds none."""
    try:
        name, *fields = json.loads(packet)
        kind, types = _TYPES[name]
    except (LookupError, TypeError, ValueError):
        raise ValueError(f'no message: {packet[:100]!r}') from None
    if tuple(map(type, fields)) != types:
        raise ValueError(f'no message: {packet[:100]!r}')
    message: Message = kind(*fields)
    return message
