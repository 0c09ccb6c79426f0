"""Texts in the configuration language, loaded without a daemon."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any, List

import pytest
from hypothesis import HealthCheck, settings

from tests.support.programs import TOP
from twitcher.config.language import load_config
from twitcher.config.spec import WatchSpec
from twitcher.errors import ConfigError

PATH = '/etc/twitcher/x.twc'
AT_ONCE = settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))


def load(text: str) -> List[WatchSpec]:
    return load_config(PATH, textwrap.dedent(text).encode())


def load_one(arguments: str) -> WatchSpec:
    """The spec of a file with one RegisterWatch, which is given these arguments."""
    spec, = load(f'RegisterWatch({arguments})')
    return spec


def refusal(source: Any) -> str:
    """The message of the ConfigError that the file is answered with."""
    with pytest.raises(ConfigError) as caught:
        load_config(PATH, source if isinstance(source, bytes) else textwrap.dedent(source).encode(), 0.3)
    return str(caught.value)


def load_elsewhere(text: str, patience: float = 10) -> str:
    """The message of a file with a time limit of 0.3 s; loaded in a process of its own, which is given up after a while."""
    program = f'''if True:
        from twitcher.config.language import load_config
        from twitcher.errors import ConfigError
        try:
            load_config({PATH!r}, {textwrap.dedent(text).encode()!r}, 0.3)
        except ConfigError as error:
            print(error)
    '''
    return subprocess.run([sys.executable, '-c', program], cwd=TOP, check=True, stdout=subprocess.PIPE, timeout=patience,
                          text=True).stdout.rstrip('\n')
