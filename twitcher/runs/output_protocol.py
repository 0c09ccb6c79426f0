"""What the daemon tells twitcher-output: each message is one packet of a SOCK_SEQPACKET socket, and there are no answers.

    Pipe   with a descriptor: the reading end of a run's pipe, which is not read yet
    Pid    the run's process
    Start  read the pipe: the line that says "pid N started" has been written, or there is none to come

The order is that of a run, but a run may end at any point of it. The end of the daemon, which closes the socket, means Start
for all pipes.
"""

from __future__ import annotations

import json
from typing import NamedTuple, Union

MAX_PACKET = 65536
"""Bytes of a packet, at most: what the receiver offers."""
MAX_DESCRIPTION = 2000
"""Characters of a description, at most; JSON takes up to twelve bytes for one."""


class Pipe(NamedTuple):
    """A pipe, by a number that is used once, and what goes before its lines in the log."""

    number: int
    description: str


class Pid(NamedTuple):
    """Whose output the pipe brings."""

    number: int
    pid: int


class Start(NamedTuple):
    """That the pipe may be read."""

    number: int


Message = Union[Pipe, Pid, Start]
_TYPES = {'Pipe': (Pipe, (int, str)), 'Pid': (Pid, (int, int)), 'Start': (Start, (int,))}


def encode(message: Message) -> bytes:
    """The packet for a message."""
    return json.dumps([type(message).__name__, *message]).encode()


def decode(packet: bytes) -> Message:
    """The message in a packet. Raises ValueError for what is none."""
    try:
        name, *fields = json.loads(packet)
        kind, types = _TYPES[name]
    except (LookupError, TypeError, ValueError):
        raise ValueError(f'no message: {packet[:100]!r}') from None
    if tuple(map(type, fields)) != types:
        raise ValueError(f'no message: {packet[:100]!r}')
    message: Message = kind(*fields)
    return message
