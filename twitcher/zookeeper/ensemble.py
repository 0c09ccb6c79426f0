"""Ensemble: which ZooKeeper servers to connect to, and below which znode.

Guarantees: an Ensemble that `parse` has returned is one that kazoo can use. kazoo
itself takes strings that end its thread later, or that mean something else than they
say.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, Optional, Tuple

from twitcher.errors import UsageError
from twitcher.znode import znode_fault

DEFAULT_PORT = 2181

_ALLOWED = 'HOST:PORT,...[/CHROOT]'

# kazoo passes a host to getaddrinfo, whose IDNA step raises in kazoo's thread for a
# label that is empty or has more than 63 characters, which ends the thread.
_LABEL = r'[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?'
_ZONE = r'%[A-Za-z0-9_-]{1,15}(\.[A-Za-z0-9_-]{1,15})*'
_SERVER = re.compile(
    rf'^(?P<name>\[(?P<address>[^\]%]+)({_ZONE})?\]|{_LABEL}(\.{_LABEL})*\.?)(:(?P<port>[0-9]{{1,5}}))?$')
_MAX_NAME_LENGTH = 253


class Ensemble(NamedTuple):
    """The way to connect. `servers` are HOST:PORT each; all znodes lie below the
    `chroot`, which is empty if there is none."""

    servers: Tuple[str, ...]
    chroot: str = ''

    @classmethod
    def parse(cls, text: str) -> Ensemble:
        """HOST[:PORT],...[/CHROOT] as an Ensemble. Raises UsageError, which names the
        part that is wrong."""
        servers, slash, chroot = text.partition('/')
        checked = tuple(_checked_server(text, part.strip()) for part in servers.split(','))
        fault = znode_fault(slash + chroot) if chroot else None
        if fault or ',' in chroot or ':' in chroot:
            raise UsageError(f'zkservers {text!r}: the chroot {slash + chroot!r} cannot be used: '
                             f'{fault or "it comes once, after the last server"}; allowed: {_ALLOWED}')
        return cls(checked, slash + chroot if chroot else '')

    def __str__(self) -> str:
        """In the form that `parse` and kazoo take."""
        return ','.join(self.servers) + self.chroot


def _checked_server(text: str, part: str) -> str:
    match = _SERVER.match(part)
    port = int(match['port'] or DEFAULT_PORT) if match else 0
    if not match or not 1 <= port <= 65535 or len(match['name']) > _MAX_NAME_LENGTH or not _is_address(match['address']):
        raise UsageError(f'zkservers {text!r}: {part!r} is no server; allowed: {_ALLOWED}, for instance '
                         'zk1:2181,zk2:2181 or [::1]:2181/chroot')
    return f'{match["name"]}:{port}'


def _is_address(text: Optional[str]) -> bool:
    """Whether the text in brackets is an IPv6 address. None means that there were no
    brackets, which is fine."""
    try:
        return text is None or ipaddress.IPv6Address(text) is not None
    except ValueError:
        return False
