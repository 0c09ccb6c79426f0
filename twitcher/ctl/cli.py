"""The command line of twitcherctl.

A command prints its result and exits 0. If it fails, it prints one line on stderr and
exits 1; if the command line is wrong, it exits 2.
"""

from __future__ import annotations

import os
from typing import List, NoReturn, Optional

from twitcher import __version__
from twitcher.ctl import poke
from twitcher.errors import TwitcherError, UsageError
from twitcher.log import report_to_stderr
from twitcher.options import Parser


def main(arguments: Optional[List[str]] = None) -> NoReturn:
    """Do what the command line says, and exit."""
    code = 1
    try:
        options = new_parser().parse(arguments)
        options.run(options)
        code = 0
    except TwitcherError as error:
        report_to_stderr('twitcherctl', str(error))
        code = 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        report_to_stderr('twitcherctl', f'stdin or stdout: {error.strerror}')
    except KeyboardInterrupt:
        report_to_stderr('twitcherctl', 'interrupted')
    os._exit(code)  # kazoo's thread may be waiting for a server: do not join it


def new_parser() -> Parser:
    """A parser with all commands."""
    parser = Parser(prog='twitcherctl', description='Work with Twitcher and the znodes that it watches.')
    parser.add_argument('--version', action='version', version=f'twitcherctl {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True, dest='command')
    poke.add_command(commands)
    return parser
