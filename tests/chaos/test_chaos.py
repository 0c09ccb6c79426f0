"""The fault harness at work: seeds of some seconds each without a violation, and each guarantee broken and noticed.

`python -m tests.chaos` runs as many seeds as one likes, as long as one likes.
"""

from __future__ import annotations

import random
import socket
import struct
from pathlib import Path
from typing import Iterator, List

import pytest

from tests.chaos.breaks import BREAKS, broken_copy
from tests.chaos.command import totals
from tests.chaos.faults import ALL, LANES, Fault, draw, kinds_of
from tests.chaos.proxy import ERRORS, ErringProxy
from tests.chaos.run import Outcome, run_chaos
from tests.chaos.world import Features, ShortSessions
from tests.support.quorum import Quorum

QUICK = tuple(lane for lane in LANES if lane != 'acl')
PLAIN = Features()


@pytest.fixture(scope='module')
def quorum() -> Iterator[Quorum]:
    """An ensemble for all tests of this file."""
    ensemble = ShortSessions()
    try:
        ensemble.start()
        yield ensemble
    finally:
        ensemble.remove()


@pytest.mark.parametrize('seed', [1, 2])
def test_no_fault_breaks_a_guarantee(seed: int, tmp_path: Path, quorum: Quorum) -> None:
    outcome = run_chaos(seed, 8, tmp_path, quorum, lanes=QUICK)
    assert outcome.violations == []
    assert outcome.updates > 20 and outcome.runs > 20
    assert sum(outcome.faults.values()) > 3


def test_every_kind_of_fault_once_breaks_no_guarantee(tmp_path: Path, quorum: Quorum) -> None:
    kinds = [kind for lane in LANES if lane != 'daemon' for kind in kinds_of(lane)]
    plan = [Fault(kind, 1 + number / 3, 1.3 + number / 3, 0, number / len(kinds)) for number, kind in enumerate(kinds)]
    end = plan[-1].end  # a daemon that is started anew need not be waited for until it finds out what an ACL hid
    plan += [Fault(kind, end + number, end + number + 0.3, 0, 0) for number, kind in enumerate(kinds_of('daemon'))]
    outcome = run_chaos(3, end + 4, tmp_path, quorum, plan=plan, features=Features(has_syslog=True, is_linked=True))
    assert outcome.violations == []
    assert sum(outcome.faults.values()) == len(plan)


@pytest.mark.parametrize('name, kinds, violation', [
    ('final', [], 'G1 '),
    ('overlap', [], 'G2 '),
    ('forgotten', ['daemon killed'], 'G2 '),
    ('needless', ['cut'], 'G3 '),
    ('reloaded', ['SIGHUP', 'config rewritten'], 'G3 '),
    ('unnoticed edit', ['config edited'], 'G4 '),
    ('backwards', [], 'backwards '),
    ('lost output', [], 'G6 '),
    ('doubled output', [], 'G6 '),
    ('nameless output', [], 'G6 '),
])
def test_a_broken_guarantee_is_noticed(name: str, kinds: List[str], violation: str, tmp_path: Path, quorum: Quorum) -> None:
    top = broken_copy(tmp_path / 'broken', BREAKS[name])
    busy = 'q-quick' if name == 'reloaded' else 'q-slow'  # a load that waits for a run may become one with a change
    strength = 0.001  # of these two edits the first changes the timeout of q-slow, the second its action
    plan = [Fault(kind, 3.0 + 1.5 * number, 3.1 + 1.5 * number, ALL, strength + number * 0.006)
            for kind in kinds for number in (0, 1)]
    found: List[str] = []
    for seed in (1, 2, 3, 4):  # a break shows if an update comes in the right moment, which a busy machine may shift
        (tmp_path / str(seed)).mkdir()
        found += run_chaos(seed, 5, tmp_path / str(seed), quorum, top, patience=2, plan=plan, names=[busy],
                           features=PLAIN).violations
        if any(line.startswith(violation) for line in found):
            return
    raise AssertionError(f'none of {found} is {violation}')


def test_a_break_that_no_longer_fits_the_code_fails_loudly(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match='the break must be adapted'):
        broken_copy(tmp_path, [('watches/watch.py', 'a text that is not there', '')])


def test_a_seed_always_draws_the_same_faults() -> None:
    first, again, other = (draw(random.Random(seed), 30) for seed in (5, 5, 6))
    assert first == again != other
    assert all(0 < fault.begin <= fault.end <= 30 and fault.target in (ALL, 0, 1, 2) for fault in first)


def test_faults_that_are_not_possible_leave_the_others_as_they_are() -> None:
    every = draw(random.Random(5), 60)
    fewer = draw(random.Random(5), 60, tuple(lane for lane in LANES if lane not in ('disk', 'syslog')))
    assert fewer == [fault for fault in every if fault.kind not in ('disk full', *kinds_of('syslog'))]


def test_a_proxy_replaces_answers_by_errors_but_neither_the_greeting_nor_events(tmp_path: Path) -> None:
    with socket.create_server(('127.0.0.1', 0)) as server:
        proxy = ErringProxy(server.getsockname()[1])
        proxy.error_rate = 1
        with socket.create_connection(('127.0.0.1', proxy.port)) as client:
            connection, _ = server.accept()
            with connection:
                frames = [struct.pack('>iqi4s', number, 7, 0, b'body') for number in (5, -1, 6)]
                sent = b''.join(struct.pack('>i', len(frame)) + frame for frame in frames)
                connection.sendall(sent[:9])  # in the midst of a frame
                connection.sendall(sent[9:])
                with client.makefile('rb') as replies:
                    assert replies.read(24 + 24) == sent[:48]
                    length, number, zxid, error = struct.unpack('>iiqi', replies.read(20))
        proxy.close()
    assert (length, number, zxid) == (16, 6, 7) and error in ERRORS and proxy.replaced == 1


def test_the_totals_of_many_seeds() -> None:
    good = Outcome(1, 60, {'cut': 2}, 10, 20, [])
    bad = Outcome(2, 61, {'cut': 1, 'delay': 1}, 5, 6, ['G1 w: one', 'G1 w: two', 'daemon: three'])
    assert totals([good])[1:] == ['1 seeds, 60 s, 2 faults, 10 updates, 20 runs', 'faults: cut 2', 'no violation']
    assert totals([good, bad])[1:] == ['2 seeds, 121 s, 4 faults, 15 updates, 26 runs', 'faults: cut 3, delay 1',
                                       'VIOLATIONS: G1 2, daemon 1', 'in 1 seeds: 2']
