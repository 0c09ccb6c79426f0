"""Daemons that are broken on purpose, to show that the checker notices. Only this
module knows texts of the program."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict, List, Tuple

from tests.support.programs import TOP

BREAKS: Dict[str, List[Tuple[str, str, str]]] = {
    'final': [('watches/watch.py', '        self._proceed()\n\n    def _own_ended', '\n    def _own_ended')],
    'overlap': [('watches/watch.py', 'if not mode.overlaps and (self.runs or self._awaited):', 'if False:'),
                ('watches/watch.py', 'self.spec.run_mode.overlaps or not (self.runs or self._awaited)', 'True')],
    'forgotten': [('daemon.py', 'in state.unfinished()]', 'in []]')],
    'needless': [('watches/changes.py', 'if self._revision is None or self._revision == revision:',
                  'if self._revision is None:')],
    'reloaded': [('watches/registry.py', '        if watch.spec.is_same(spec, ignore_action):', '        if False:'),
                 ('watches/unclaimed.py', 'if each.watch and each.watch.spec.is_same(spec)]', 'if False]')],
    'unnoticed edit': [('config/directory.py', 'return before == after or both_failed', 'return before is not None')],
    'backwards': [('watches/watch.py', 'self._pending[:] = [update]', 'self._pending.append(update)'),
                  ('watches/watch.py', 'update = self._pending.pop(0)', 'update = self._pending.pop()')],
    'lost output': [('runs/output_process.py',
                     'list(source.lines.take(chunk) if chunk',
                     'list(list(source.lines.take(chunk))[1:] if chunk')],
    'doubled output': [('runs/output_process.py', 'for line in lines), len', 'for line in lines for _ in range(2)), len')],
    'nameless output': [('runs/output_process.py',
                         'source.pid, source.deadline = str(message.pid),',
                         "source.pid, source.deadline = '?',")],
}
"""Ways to break a guarantee: the module, a text of it, and what to have instead."""


def broken_copy(directory: Path, replacements: List[Tuple[str, str, str]], top: Path = TOP) -> Path:
    """A copy of the program in which texts of its modules are replaced. Raises
    LookupError for one that is not found once."""
    for name in ('bin', 'twitcher'):
        shutil.copytree(top / name, directory / name, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(top / 'setup.py', directory)
    for module, old, new in replacements:
        path = directory / 'twitcher' / module
        text = path.read_text()
        if text.count(old) != 1:
            raise LookupError(f'{module} has {old!r} {text.count(old)} times: the break must be adapted to the code')
        path.write_text(text.replace(old, new))
    return directory
