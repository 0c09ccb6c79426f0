"""Mistakes in the policies, one each, that the model test must notice. Only this module knows texts of the program.

`python -m tests.watches.mutations` says of each how many histories it survives.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Tuple

from tests.chaos.breaks import broken_copy
from tests.support.programs import TOP

MUTATIONS: Dict[str, Tuple[str, str, str]] = {
    'settle counts from the first update': (
        'watches/timing.py', 'min(now + self._seconds, self._since + MAX_SETTLE * self._seconds)',
        'self._since + self._seconds'),
    'an update moves the end of splay': (
        'watches/timing.py', 'None if update.attempt > 1 else self._since + self._seconds',
        'None if update.attempt > 1 else now + self._seconds'),
    'one retry too few': ('watches/schedule.py', 'has_failed and self.attempt <= policy.times',
                          'has_failed and self.attempt < policy.times'),
    'each retry has the first delay': ('watches/timing.py', 'policy.backoff ** (attempt - 2)', 'policy.backoff ** 0'),
    'an update waits for the retry': (
        'watches/states.py', '(Action.START_ANEW, State.DELAYED),\n        Trigger.OPEN: (Action.PASS',
        '(Action.NOTHING, State.RETRYING),\n        Trigger.OPEN: (Action.PASS'),
    'a stop is forgotten by the next daemon': ('watches/watch.py', 'save_stopped(self.name, self.spec.digest)',
                                               'save_stopped(self.name, None)'),
    'an edit does not resume a stopped watch': ('watches/schedule.py', ' and last.stopped == spec.digest', ''),
    'an unknown end stops': ('watches/schedule.py', 'if outcome is Outcome.FAILURE and policy.then is Then.STOP',
                             'if has_failed and policy.then is Then.STOP'),
    'CHANGED does not ask whether the last run succeeded': (
        'watches/policies.py', 'last.revision if last.failed is False or is_in_progress else UNKNOWN', 'last.revision'),
    'what is delayed is not pending for the next daemon': (
        'watches/schedule.py', 'self._awaits_state or self._held is not None', 'self._awaits_state'),
    'RESTART waits for the end of the run': (
        'watches/watch.py', '        if mode.restarts:\n            self.end_runs()\n', ''),
    'a lock is not held by a run of an earlier daemon': (
        'watches/policies.py', 'if record.lock is not None:', 'if False:'),
    'a deletion does not end repeat': (
        'watches/states.py', '(Action.FORGET, State.IDLE)', '(Action.NOTHING, State.REPEATING)'),
    'a pending deletion is left to an earlier daemon': (
        'watches/watch.py', 'self.spec.run_on_delete and (is_new or self._is_any_due())', 'self.spec.run_on_delete and is_new'),
}
"""The module, a text of it, and what to have instead."""

_PLAY = """
import sys
from hypothesis import Phase, settings
from tests.watches.test_policies_at_random import Histories, histories
from hypothesis.stateful import run_state_machine_as_test
count = 0
class Counted(Histories):
    def __init__(self):
        global count
        count += 1
        super().__init__()
try:
    run_state_machine_as_test(Counted, settings=settings(histories(int(sys.argv[1])), phases=[Phase.generate]))
except BaseException:
    print(count)
"""


def caught_after(name: str, histories: int, directory: Path) -> int:
    """The number of the history that shows this mistake, of so many; 0 if none does."""
    copy = broken_copy(directory, [MUTATIONS[name]])
    path = os.pathsep.join((str(copy), str(TOP)))
    done = subprocess.run([sys.executable, '-c', _PLAY, str(histories)], cwd=directory, env={**os.environ, 'PYTHONPATH': path},
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return int(done.stdout or 0)


if __name__ == '__main__':
    for mutation in MUTATIONS:
        with tempfile.TemporaryDirectory() as place:
            print(f'{caught_after(mutation, 2000, Path(place)):5} {mutation}', flush=True)
