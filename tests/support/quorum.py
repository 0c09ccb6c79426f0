"""An ensemble of three real servers, for tests that take members away."""

from __future__ import annotations

import contextlib
import os
from typing import List

from tests.support.ensemble import connected
from tests.support.waiting import wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer, free_port, is_serving


class Member(ThrowAwayServer):
    """A server that serves only together with others: it starts without waiting for that."""

    def wait(self) -> None:
        """Nothing: it takes two of them."""


class Quorum:
    """Three servers. They speak to each other on 127.0.0.1, too."""

    def __init__(self) -> None:
        peers = {f'server.{number}': f'127.0.0.1:{free_port()}:{free_port()}' for number in (1, 2, 3)}
        settings = {'tickTime': '100', 'initLimit': '100', 'syncLimit': '50', 'minSessionTimeout': '500',
                    'maxSessionTimeout': '30000', 'quorumListenOnAllIPs': 'false', **peers}
        self.members = [Member(settings) for _ in peers]
        for number, member in enumerate(self.members, 1):
            with open(os.path.join(member.directory, 'myid'), 'w') as file:
                file.write(f'{number}\n')
        self.hosts = ','.join(member.hosts for member in self.members)

    def start(self) -> None:
        """Start all, and wait until all serve."""
        for member in self.members:
            member.start()
        wait_for('a quorum', lambda: all(is_serving(member.port) for member in self.members))
        with connected(self.hosts):
            pass

    def restart(self, member: ThrowAwayServer) -> None:
        """Have a member back that was stopped."""
        member.start()
        wait_for('the member to be back', lambda: is_serving(member.port))

    def server_of(self, pid: int) -> ThrowAwayServer:
        """The member that the process is connected to."""
        return wait_for('a connection to a member', lambda: next(
            (member for member in self.members if member.port in _ports_connected_to(pid)), None))

    def remove(self) -> None:
        """Stop all and remove their data."""
        for member in self.members:
            member.remove()


def _ports_connected_to(pid: int) -> List[int]:
    """The ports of the established TCP connections that a process has: proc(5), /proc/net/tcp."""
    inodes = set()
    for name in os.listdir(f'/proc/{pid}/fd'):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(f'/proc/{pid}/fd/{name}'))
    ports = []
    for table in ('tcp', 'tcp6'):
        with open(f'/proc/{pid}/net/{table}') as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == '01' and f'socket:[{fields[9]}]' in inodes:
                    ports.append(int(fields[2].rpartition(':')[2], 16))
    return ports
