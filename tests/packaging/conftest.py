"""What the tests of the documents share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict

import pytest

from tests.support.programs import TOP


@pytest.fixture
def shell_environment(tmp_path: Path) -> Dict[str, str]:
    """An environment in which PATH has twitcher and twitcherctl of this checkout, and git needs no configuration."""
    directory = tmp_path / 'bin'
    directory.mkdir()
    for name in ('twitcher', 'twitcherctl'):
        (directory / name).write_text(f'#!/bin/sh\nexec {sys.executable} {TOP}/bin/{name} "$@"\n')
        (directory / name).chmod(0o755)
    who = {'GIT_AUTHOR_NAME': 'a', 'GIT_AUTHOR_EMAIL': 'a@example.org', 'GIT_COMMITTER_NAME': 'a',
           'GIT_COMMITTER_EMAIL': 'a@example.org', 'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_SYSTEM': '/dev/null'}
    return {**os.environ, **who, 'PATH': f'{directory}:{os.environ["PATH"]}'}
