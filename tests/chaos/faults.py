"""The faults: which there are, and when each happens, drawn from a seed. What they do
is `inject`'s business."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Collection, Dict, List, NamedTuple, Tuple

MEMBERS = 3
ALL = -1
"""A fault's target: every member."""


class _Lane(NamedTuple):
    """Faults that exclude each other, with the seconds that each lasts, and the mean
    pause between two of them."""

    pause: float
    kinds: Dict[str, Tuple[float, float]]


_LANES = {
    'network': _Lane(1.5, {'cut': (0, 0), 'refuse': (0.2, 4), 'delay': (0.5, 3), 'swallow': (0.5, 6)}),
    'server': _Lane(3, {'server killed': (0.1, 3), 'server stopped': (0.5, 6)}),
    'daemon': _Lane(2.5, {'daemon killed': (0.05, 1.5), 'daemon ended': (0.05, 1.5), 'daemon stopped': (0.2, 5)}),
    'config': _Lane(1.5, {'config rewritten': (0, 0), 'config edited': (0, 0), 'SIGHUP': (0, 0)}),
    'in place': _Lane(2, {'config overwritten': (0, 0), 'config edited in place': (0, 0)}),
    'order': _Lane(2, {'config renamed': (0, 0), 'watch put above': (0, 0)}),
    'answers': _Lane(4, {'error answers': (0.3, 3)}),
    'processor': _Lane(4, {'daemon stutters': (0.5, 3), 'processor busy': (0.5, 3)}),
    'disk': _Lane(6, {'disk full': (0.5, 4)}),
    'syslog': _Lane(5, {'syslog away': (0.2, 4), 'syslog stalled': (1, 6)}),
    'chatty': _Lane(6, {'chatty action': (0, 0)}),
    'pipe': _Lane(12, {'action reads its pipe': (0, 0)}),
    'acl': _Lane(3, {'acl closed': (0.5, 4)}),
}
LANES = tuple(_LANES)


@dataclass(frozen=True)
class Fault:
    """`begin` and `end` are in seconds from the start of a round; `target` is a
    member's number or ALL; `strength` is from 0 to 1."""

    kind: str
    begin: float
    end: float
    target: int
    strength: float

    def __str__(self) -> str:
        return f'{self.kind} ({"all" if self.target == ALL else self.target}) from {self.begin:.2f} to {self.end:.2f} s'


def kinds_of(lane: str) -> Tuple[str, ...]:
    """The kinds of faults of a lane."""
    return tuple(_LANES[lane].kinds)


def draw(random_numbers: random.Random, seconds: float, lanes: Collection[str] = LANES) -> List[Fault]:
    """The faults of a round. All have ended when it has."""
    faults = []
    for name, lane in _LANES.items():
        now = random_numbers.expovariate(1 / lane.pause)
        while now < seconds:
            kind = random_numbers.choice(list(lane.kinds))
            end = min(seconds, now + random_numbers.uniform(*lane.kinds[kind]))
            target = random_numbers.choice([ALL, ALL, *range(MEMBERS)] if name in ('network', 'answers') else range(MEMBERS))
            if name in lanes:
                faults.append(Fault(kind, now, end, target, random_numbers.random()))
            else:
                random_numbers.random()
            now = end + random_numbers.expovariate(1 / lane.pause)
    return sorted(faults, key=lambda fault: fault.begin)
