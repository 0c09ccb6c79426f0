"""The house rules that a program can check."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from tests.support.programs import TOP

PACKAGE = TOP / 'twitcher'

# Each module may import those that stand before it, and no others.
LAYERS = [
    'lazy_imports', 'errors', 'znode', 'run_record', 'config.account', 'config.shell', 'config.action', 'config.spec',
    'config.checks', 'config.arguments', 'log_target', 'log_queue', 'log', 'config.scan', 'config.helper_modules',
    'config.deadline', 'config.isolation_check', 'descriptors', 'config.isolation_settings', 'config.isolation',
    'config.isolation_logging', 'config.captured_output', 'config.language', 'config.inotify', 'config.mounts',
    'config.watched_scan', 'config.recent_events', 'config.directory_problems', 'config.directory',
    'zookeeper.ensemble', 'zookeeper.transport', 'zookeeper.client', 'zookeeper.loop_calls', 'zookeeper.session',
    'zookeeper.children', 'zookeeper.rotation', 'zookeeper.node', 'zookeeper.checks', 'zookeeper.subscriptions',
    'zookeeper.tree',
    'watches.gates', 'watches.turns', 'watches.timing', 'watches.states', 'watches.retries', 'watches.backlog',
    'watches.context', 'watches.changes', 'watches.progress', 'watches.schedule', 'watches.policies', 'watches.watch',
    'watches.unclaimed', 'watches.registry', 'lock', 'database', 'good_configs', 'config.loader', 'state', 'daemonize',
    'runs.procfs', 'runs.process_group', 'runs.fork', 'runs.environment', 'runs.posix_spawn', 'runs.exec_errors',
    'runs.pidfd', 'runs.child', 'runs.stdin', 'runs.output_protocol', 'runs.output_process', 'runs.twitcher_output',
    'runs.output_link', 'runs.output', 'runs.coarse_timer', 'runs.slow_run', 'runs.process_handle',
    'runs.notify_signal', 'runs.run', 'runs.workers', 'runs.runner', 'pidfile', 'init', 'zookeeper.throwaway',
    'sd_notify', 'daemon', 'options', 'cli', 'zookeeper.poke', 'ctl.service', 'ctl.poke', 'ctl.cli', '__main__',
]
# What no module of a package may import.
FORBIDDEN = {
    'config': ('twitcher.zookeeper', 'twitcher.watches', 'twitcher.runs', 'twitcher.state', 'twitcher.daemon', 'kazoo'),
    'zookeeper': ('twitcher.config',),
}
RARELY_NEEDED = [('cli', 'twitcher.zookeeper.throwaway'), ('daemonize', 'daemon'),
                 ('watches.policies', 'twitcher.watches.schedule')]
HOMES = {'kazoo': ('zookeeper.transport', 'zookeeper.client'), 'pyinotify': ('config.inotify',), 'daemon': ('daemonize',)}


def _modules() -> List[Path]:
    return sorted(PACKAGE.rglob('*.py'))


def _name(path: Path) -> str:
    """The module's dotted name below the package."""
    return '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)


def _imports(path: Path) -> Iterator[Tuple[str, bool]]:
    """Every module that a file imports, and whether it does so at its top, or in a with or an if statement there."""
    tree = ast.parse(path.read_text())
    top = {*tree.body, *(node for block in tree.body if isinstance(block, (ast.With, ast.If)) for node in block.body)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ''
            is_package = '.' in module and (PACKAGE.parent / module.replace('.', '/')).is_dir()
            for name in [f'{module}.{alias.name}' for alias in node.names] if is_package else [module]:
                yield name, node in top
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top


def test_every_module_has_its_place_in_the_layers() -> None:
    assert sorted(LAYERS) == [_name(path) for path in _modules() if path.stem != '__init__']


@pytest.mark.parametrize('name', LAYERS)
def test_imports_point_downwards_only(name: str) -> None:
    below = LAYERS[:LAYERS.index(name)]
    for imported, _ in _imports(PACKAGE / f'{name.replace(".", "/")}.py'):
        if imported.startswith('twitcher.'):
            assert imported.partition('.')[2] in below


@pytest.mark.parametrize('package', FORBIDDEN)
def test_packages_do_not_know_what_is_none_of_their_business(package: str) -> None:
    for path in (PACKAGE / package).glob('*.py'):
        for imported, _ in _imports(path):
            assert not any(f'{imported}.'.startswith(f'{name}.') for name in FORBIDDEN[package]), f'{path.name}: {imported}'


def test_watches_and_runs_are_connected_by_the_daemon_alone() -> None:
    shared = {'errors', 'log', 'log_target', 'run_record', 'znode', 'config.account', 'config.action', 'config.spec'}
    for room, other in (('watches', 'runs'), ('runs', 'watches')):
        for path in (PACKAGE / room).glob('*.py'):
            ours = {name.partition('.')[2] for name, _ in _imports(path) if name.startswith('twitcher.')}
            if room == 'watches':
                assert {name for name in ours if not name.startswith('watches.')} <= shared, path.name
            assert [name for name in ours if name.startswith(f'{other}.')] == [], path.name
    seen = {_name(path) for path in _modules() for name, _ in _imports(path) if name == 'twitcher.watches.registry'}
    assert seen == {'daemon'}


def test_state_and_database_know_neither_watches_nor_runs() -> None:
    for name in ('state', 'database', 'good_configs'):
        for imported, _ in _imports(PACKAGE / f'{name}.py'):
            assert not imported.startswith(('twitcher.watches', 'twitcher.runs')), imported


def test_third_party_libraries_stay_behind_one_module_each() -> None:
    for path in _modules():
        for imported, _ in _imports(path):
            homes = HOMES.get(imported.partition('.')[0])
            assert homes is None or _name(path) in homes, f'{path.name} imports {imported}'


def test_imports_are_at_the_top_but_for_what_few_daemons_need() -> None:
    assert [(_name(path), name) for path in _modules() for name, top in _imports(path) if not top] == RARELY_NEEDED


def test_nothing_of_ours_is_logged_by_what_a_twc_file_can_reconfigure() -> None:
    # The others handle what a file has set up: for its load, and for its functions.
    allowed = ['config.isolation', 'config.isolation_logging', 'log', 'runs.fork']
    users = {_name(path) for path in _modules() for name, _ in _imports(path) if name.partition('.')[0] == 'logging'}
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
