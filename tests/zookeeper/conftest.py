"""Fixtures for tests of subscriptions without a daemon."""

from __future__ import annotations

import contextlib
from typing import Iterator

import pytest

from tests.support.ensemble import Ensemble
from tests.support.subscriber import NewSubscriber, Subscriber


@pytest.fixture
def new_subscriber() -> Iterator[NewSubscriber]:
    """Makes a subscriber for a host list."""
    with contextlib.ExitStack() as stack:
        yield lambda hosts: stack.enter_context(contextlib.closing(Subscriber(hosts)))


@pytest.fixture
def subscriber(new_subscriber: NewSubscriber, ensemble: Ensemble) -> Subscriber:
    """A subscriber for the `ensemble` fixture."""
    return new_subscriber(ensemble.hosts)
