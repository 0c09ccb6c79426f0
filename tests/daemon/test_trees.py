"""WATCH_TREE in a running daemon: what its runs are told describes the tree, whatever happens to sessions and daemons."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Dict, List

from kazoo.client import KazooClient

from tests.support.daemon import Twitcher
from tests.support.ensemble import Ensemble
from tests.support.programs import TOP
from tests.support.proxy import Proxy
from tests.support.subscriber import ask_server
from tests.support.trees import ChangingTree, apply_lines, tree_of, znodes_below
from tests.support.waiting import Trace, wait_for
from twitcher.zookeeper.throwaway import ThrowAwayServer

SIZE = int(os.environ.get('TWITCHER_TEST_TREE', '500'))
"""Znodes in a tree."""


def watch_tree(daemon: Twitcher, trace: Trace, more: str = '', then: str = 'true') -> None:
    """Have each run write what it is told to the trace, and then do something."""
    daemon.config('t.twc', f"""
        RegisterWatch('/t', Exec('(echo run $TWITCHER_EVENT; cat; echo end) >> {trace}; {then}'), watch_type=WATCH_TREE{more})
        """)


def runs(trace: Trace) -> List[List[str]]:
    """What each run was told: its event, and then its lines."""
    texts = [text.splitlines() for text in '\n'.join(trace.lines()).split('run ')[1:]]
    return [lines[:-1] for lines in texts if lines[-1] == 'end']


def known_by(trace: Trace) -> Dict[str, int]:
    """The paths that somebody knows who has followed the lines since the last load, and how often each was named."""
    known: Dict[str, int] = {}
    for event, *lines in runs(trace):
        if event == 'load':
            known.clear()
        apply_lines(lines, known)
    return known


def wait_known(trace: Trace, client: KazooClient) -> None:
    """Return as soon as the lines describe the tree."""
    paths = set(tree_of(client, '/t'))
    wait_for('lines that describe the tree', lambda: set(known_by(trace)) == paths)


def test_the_lines_of_all_runs_describe_the_tree_under_load_and_across_a_lost_session(
        tmp_path: Path, short_server: ThrowAwayServer, trace: Trace) -> None:
    with contextlib.ExitStack() as stack:
        part = stack.enter_context(contextlib.closing(Ensemble(short_server.hosts)))
        proxy = stack.enter_context(contextlib.closing(Proxy(short_server.port)))
        daemon = stack.enter_context(contextlib.closing(Twitcher(tmp_path, proxy.hosts + part.chroot)))
        tree = ChangingTree(part.client, '/t', SIZE)
        tree.grow()
        watch_tree(daemon, trace)
        daemon.start()
        wait_known(trace, part.client)
        assert len(runs(trace)) == 1
        tree.change(SIZE)
        wait_known(trace, part.client)
        changing = threading.Thread(target=tree.change, args=(4 * SIZE,))
        changing.start()
        session = daemon.wait_log('session (0x[0-9a-f]+)')[0][1]
        proxy.refuse()
        wait_for('the end of the session', lambda: session not in ask_server(short_server.port, 'dump'))
        proxy.heal()
        changing.join()
        daemon.wait_log('the session has expired')
        wait_known(trace, part.client)
        daemon.fence(part)
        count = len(runs(trace))
        proxy.cut()
        daemon.wait_log('ZooKeeper: connected', 3)
        daemon.fence(part)
        assert len(runs(trace)) == count


def test_each_line_has_a_cause_and_each_change_a_line(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    for name in ('a', 'b', 'c'):
        ensemble.put(f'/t/{name}', '')
    watch_tree(twitcher, trace)
    twitcher.start()
    twitcher.wait_ended('t.twc')
    transaction = ensemble.client.transaction()
    transaction.set_data('/t/a', b'1')
    transaction.delete('/t/b')
    transaction.create('/t/d')
    transaction.set_data('/t/d', b'1')
    transaction.commit()
    twitcher.wait_ended('t.twc', 2)
    transaction = ensemble.client.transaction()
    for path in ('/t/a', '/t/c', '/t/d', '/t'):
        transaction.delete(path)
    transaction.commit()
    twitcher.wait_log('t.twc: /t was deleted')
    transaction = ensemble.client.transaction()
    transaction.create('/t')
    transaction.create('/t/a')
    transaction.commit()
    twitcher.wait_ended('t.twc', 3)
    twitcher.fence(ensemble)
    assert runs(trace) == [
        ['load', 'created\t/t', 'created\t/t/a', 'created\t/t/b', 'created\t/t/c'],
        ['changed', 'changed\t/t/a', 'deleted\t/t/b', 'created\t/t/d'],
        ['created', 'created\t/t', 'created\t/t/a', 'deleted\t/t/c', 'deleted\t/t/d'],
    ]


def test_without_pipe_stdin_the_lines_are_not_told(twitcher: Twitcher, ensemble: Ensemble, trace: Trace) -> None:
    ensemble.put('/t/a', '')
    watch_tree(twitcher, trace, ', pipe_stdin=False')
    twitcher.start()
    twitcher.wait_ended('t.twc')
    ensemble.put('/t/b', '')
    twitcher.wait_ended('t.twc', 2)
    assert runs(trace) == [['load'], ['changed']]


def test_a_restart_tells_the_whole_tree_and_without_run_on_load_only_if_a_run_is_missing(
        twitcher: Twitcher, ensemble: Ensemble, trace: Trace, gate: Path) -> None:
    ensemble.put('/t/a', '')
    watch_tree(twitcher, trace, ', run_on_load=False', then=f'until [ -e {gate} ]; do sleep 0.05; done')
    twitcher.config('u.twc', "RegisterWatch('/t', Exec('true'), watch_type=WATCH_TREE)")  # subscribes later
    twitcher.start('--debug')
    twitcher.wait_started('u.twc')
    ensemble.put('/t/b', '')
    twitcher.wait_started('t.twc')
    ensemble.put('/t/c', '')
    twitcher.wait_log(r't.twc: changed \(version 0\) waits for the run in progress')
    twitcher.kill()
    ensemble.client.delete('/t/b')
    twitcher.start()
    gate.touch()
    wait_for('the second run', lambda: len(runs(trace)) == 2)
    twitcher.stop()
    count = len(twitcher.started('u.twc'))
    twitcher.start()
    twitcher.wait_started('u.twc', count + 1)
    ensemble.put('/t/d', '')
    wait_for('the third run', lambda: len(runs(trace)) == 3)
    assert runs(trace) == [['changed', 'created\t/t/b'], ['changed', 'created\t/t', 'created\t/t/a', 'created\t/t/c'],
                           ['changed', 'created\t/t/d']]


HOSTILE = ['..evil', '@', '%40', 'ä', ' ', 'a\u2028b', '$(touch x)', "'", '-rf', '*', 'a@', '@new', 'a%']


def mirrored(directory: Path) -> Dict[str, bytes]:
    """The znodes that the files stand for, with their contents."""
    found = {}
    for path in directory.rglob('*'):
        names = [name for name in path.relative_to(directory).parts if name != '@']
        znode = '/'.join(['/examples/tree', *(name.replace('%40', '@').replace('%25', '%') for name in names)])
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # a run may be at work
            found[znode] = path.read_bytes()
    return found


def test_the_example_mirrors_a_tree_into_a_directory(twitcher: Twitcher, ensemble: Ensemble, tmp_path: Path) -> None:
    def znodes() -> Dict[str, bytes]:
        return {path: ensemble.client.get(path)[0] for path, _ in znodes_below(ensemble.client, '/examples/tree')}

    block = tmp_path / 'block'
    block.write_text('')
    directory = block / 'mirror'
    text = (TOP / 'etc' / 'examples' / 'mirror.twc').read_text()
    twitcher.config('mirror.twc', text.replace('localhost:2181', ensemble.hosts).replace('/srv/tree', str(directory)))
    tree = ChangingTree(ensemble.client, '/examples/tree', 150)
    tree.grow()
    for number, name in enumerate(HOSTILE):
        ensemble.put(f'/examples/tree/{name}', number)
        ensemble.put(f'/examples/tree/{name}/{name}', number)
    twitcher.start()
    twitcher.wait_log('mirror.twc: pid .* exited 1')
    block.unlink()
    wait_for('the mirror', lambda: mirrored(directory) == znodes())
    tree.change(500)
    wait_for('the changes in the mirror', lambda: mirrored(directory) == znodes())
    twitcher.stop()
    tree.change(100)
    twitcher.start()
    wait_for('the mirror after a restart', lambda: mirrored(directory) == znodes())
    assert twitcher.ended('mirror.twc')[-1] == 'exited 0'
    assert not list(tmp_path.glob('x')) and not list(directory.rglob('@new'))
