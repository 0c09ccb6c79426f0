"""etcdctl: `etcdctl watch KEY -- COMMAND`, on an etcd from the distribution."""

from __future__ import annotations

import shutil
from typing import List

from bench.contender import Contender, Job


class Etcdctl(Contender):
    """One key for each process."""

    name = 'etcdctl watch'
    store = 'etcd'

    def limitation(self) -> str:
        """As Contender says."""
        return '' if shutil.which('etcd') and shutil.which('etcdctl') else 'etcd-server and etcd-client are not installed'

    def prepare(self, job: Job) -> List[str]:
        """As Contender says."""
        return ['env', 'ETCDCTL_API=3', 'etcdctl', '--endpoints', job.hosts, 'watch', job.znodes[0], '--', *job.command]
