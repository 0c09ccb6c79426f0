"""The messages from the daemon to twitcher-output.

Each is one packet of a SOCK_SEQPACKET socket; there are no answers.

    Pipe   carries a descriptor: the reading end of a run's pipe, not to be read yet
    Pid    the process of the run
    Start  read the pipe: the line "pid N started" has been written, or there is none

A run sends them in this order, but may end after any of them. The end of the daemon,
which closes the socket, means Start for all pipes.
"""

from __future__ import annotations

from typing import NamedTuple, Union

MAX_PACKET = 65536
"""Bytes of the largest packet: the size of the receiver's buffer."""
MAX_DESCRIPTION = 2000
"""Characters of the longest description, each of at most four bytes."""


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


def encode(message: Message) -> bytes:
    """Return the packet for a message: its name and its fields, separated by spaces."""
    return ' '.join((type(message).__name__, *map(str, message))).encode('utf-8', 'surrogatepass')


def decode(packet: bytes) -> Message:
    """Return the message in a packet. Raises ValueError if it holds none."""
    try:
        name, number, *rest = packet.decode('utf-8', 'surrogatepass').split(' ', 2)
        if name == 'Pipe':
            return Pipe(int(number), *rest)
        if name == 'Pid':
            return Pid(int(number), *map(int, rest))
        if name == 'Start':
            return Start(int(number), *rest)
    except (TypeError, ValueError):
        pass
    raise ValueError(f'no message: {packet[:100]!r}')
