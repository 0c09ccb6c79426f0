"""The house rules that a program can check."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from tests.harness import TOP

PACKAGE = TOP / 'twitcher'

# Each module may import those that stand before it, and no others.
LAYERS = [
    'late', 'errors', 'account', 'shell', 'action', 'spec', 'znode', 'log_target', 'log_queue', 'log', 'configtree', 'helpers',
    'deadline', 'reach', 'descriptors', 'interpreter_settings', 'isolation', 'file_logging', 'printed', 'config',
    'inotify', 'mounts', 'scanner', 'problems', 'configdir', 'transport', 'zookeeper', 'session', 'children',
    'rotation', 'node', 'keeper', 'slots', 'retries', 'backlog', 'watch', 'unclaimed', 'procfs', 'lock', 'database',
    'good_configs', 'state', 'loader', 'fork', 'posix_spawn', 'exec_errors', 'child', 'stdin', 'output_protocol',
    'outputd', 'twitcher_output', 'output_link', 'output', 'reminders', 'notify', 'run', 'workers', 'runner', 'watches',
    'pidfile', 'process', 'init', 'devel', 'service', 'daemon', 'poke', 'usage', 'cli', 'ctl', '__main__',
]
RARELY_NEEDED = [('cli', 'twitcher.devel'), ('process', 'daemon')]
HOMES = {'kazoo': ('transport', 'zookeeper'), 'pyinotify': ('inotify',), 'daemon': ('process',)}


def _modules() -> List[Path]:
    return sorted(PACKAGE.glob('*.py'))


def _imports(path: Path) -> Iterator[Tuple[str, bool]]:
    """Every module that a file imports, and whether it does so at its top, or in a with statement there."""
    tree = ast.parse(path.read_text())
    top = {*tree.body, *(node for block in tree.body if isinstance(block, ast.With) for node in block.body)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or '', node in top
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top


def test_every_module_has_its_place_in_the_layers() -> None:
    assert sorted(LAYERS) == [path.stem for path in _modules() if path.stem != '__init__']


@pytest.mark.parametrize('name', LAYERS)
def test_imports_point_downwards_only(name: str) -> None:
    below = LAYERS[:LAYERS.index(name)]
    for imported, _ in _imports(PACKAGE / f'{name}.py'):
        if imported.startswith('twitcher.'):
            assert imported.partition('.')[2] in below


def test_third_party_libraries_stay_behind_one_module_each() -> None:
    for path in _modules():
        for imported, _ in _imports(path):
            homes = HOMES.get(imported.partition('.')[0])
            assert homes is None or path.stem in homes, f'{path.name} imports {imported}'


def test_imports_are_at_the_top_but_for_what_few_daemons_need() -> None:
    assert [(path.stem, name) for path in _modules() for name, top in _imports(path) if not top] == RARELY_NEEDED


def test_nothing_of_ours_is_logged_by_what_a_twc_file_can_reconfigure() -> None:
    # The others handle what a file has set up: for its load, and for its functions.
    allowed = ['file_logging', 'fork', 'isolation', 'log']
    users = {path.stem for path in _modules() for name, _ in _imports(path) if name.partition('.')[0] == 'logging'}
    assert sorted(users) == allowed


def test_every_module_says_what_it_guarantees() -> None:
    assert [path.name for path in _modules() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_modules_fit_a_room_and_functions_a_screen() -> None:
    for path in _modules():
        text = path.read_text()
        assert text.count('\n') <= 300, path.name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno and node.end_lineno - node.lineno < 45, f'{path.name}: {node.name}'
