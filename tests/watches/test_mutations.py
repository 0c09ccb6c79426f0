"""The model test notices each mistake that mutations.py makes in the policies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.watches.mutations import MUTATIONS, caught_after


@pytest.mark.timeout(900)  # hundreds of histories until the mistake shows
@pytest.mark.parametrize('name', MUTATIONS)
def test_the_model_notices_a_mistake(name: str, tmp_path: Path) -> None:
    assert caught_after(name, 20_000, tmp_path)
