"""NAIVE: kazoo's DataWatch and subprocess; see naive_program.py."""

from __future__ import annotations

from pathlib import Path
from typing import List

from bench.contender import Contender, Job

_PROGRAM = Path(__file__).with_name('naive_program.py')


class Naive(Contender):
    """What people write without Twitcher."""

    name = 'NAIVE'

    def prepare(self, job: Job) -> List[str]:
        """As Contender says."""
        return [job.python, str(_PROGRAM), job.hosts, str(job.list_of_znodes()), str(int(job.run_on_load)), *job.command]
