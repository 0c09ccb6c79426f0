"""Settings of this machine's service that twitcherctl uses as defaults."""

from __future__ import annotations

import shlex
from typing import Optional

DEFAULTS = '/etc/default/twitcher'
"""A shell script, which the init script and the systemd unit read."""


def configured_servers() -> Optional[str]:
    """ZKSERVERS in DEFAULTS; None if that does not set it, or cannot be read."""
    try:
        with open(DEFAULTS, encoding='utf-8', errors='surrogateescape') as file:
            lines = [shlex.split(line, comments=True) for line in file if line.startswith('ZKSERVERS=')]
    except (OSError, ValueError):
        return None
    words = [words[0] for words in lines if len(words) == 1]
    return words[-1].partition('=')[2] or None if words else None
