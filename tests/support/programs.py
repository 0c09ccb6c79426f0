"""The programs under test, twitcher and twitcherctl, as commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from tests.support.waiting import PATIENCE

TOP = Path(__file__).resolve().parent.parent.parent
"""The top of the source tree."""


def command(name: str, *arguments: Any) -> List[Any]:
    """The command line of a program of ours, `twitcher` or `twitcherctl`."""
    return [sys.executable, str(TOP / 'bin' / name), *arguments]


def call(name: str, *arguments: Any, contents: Optional[bytes] = None, wrapper: Sequence[str] = (),
         environment: Optional[Dict[str, str]] = None) -> subprocess.CompletedProcess[bytes]:
    """Run a program of ours to its end; `contents` are its stdin."""
    return subprocess.run([*wrapper, *command(name, *arguments)], input=contents or b'', capture_output=True, check=False,
                          timeout=PATIENCE, env={**os.environ, **(environment or {})}, start_new_session=True)
