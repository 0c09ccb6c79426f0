"""FLOOR: a minimal C program on libzookeeper; see floor.c."""

from __future__ import annotations

from typing import List

from bench.contender import Contender, Job


class Floor(Contender):
    """The lower bound of time and memory."""

    name = 'FLOOR'

    def prepare(self, job: Job) -> List[str]:
        """As Contender says."""
        return [str(job.tools / 'floor'), job.hosts, str(job.list_of_znodes()), str(int(job.run_on_load)), *job.command]
