"""A daemon that has run much, reloaded often and reconnected often holds what it held when it was young."""

from __future__ import annotations

from pathlib import Path

from tests.endurance.__main__ import WATCHES, life


def test_a_long_life_leaves_nothing_behind(tmp_path: Path) -> None:
    with life(tmp_path) as daemon:
        daemon.live(runs=5 * WATCHES, reloads=15, reconnects=5)
        before = daemon.holdings()
        daemon.live(runs=8 * WATCHES, reloads=30, reconnects=8)
        assert daemon.holdings().growth_since(before) == []
        assert daemon.faults == []
