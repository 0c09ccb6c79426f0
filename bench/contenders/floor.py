"""FLOOR: a C program on libzookeeper that does the least; see floor.c."""

from __future__ import annotations

from typing import List

from bench.contender import Contender, Job


class Floor(Contender):
    """What nobody can be faster or smaller than."""

    name = 'FLOOR'

    def prepare(self, job: Job) -> List[str]:
        """As Contender says."""
        return [str(job.tools / 'floor'), job.hosts, str(job.list_of_znodes()), str(int(job.run_on_load)), *job.command]
