"""The command line of twitcherctl. Its commands print one line, and exit 0; or 1, with the reason on stderr; or 2 for a bad
command line."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import List, NoReturn, Optional

from twitcher import __version__
from twitcher.errors import TwitcherError, UsageError
from twitcher.log import report_to_stderr
from twitcher.options import DEFAULT_SERVERS, Parser, add_ensemble_options, ensemble_of, number
from twitcher.znode import znode_fault
from twitcher.zookeeper.poke import MAX_CONTENTS, poke

DEFAULT_WAIT = 10.0
DEFAULTS = '/etc/default/twitcher'
"""What the service of this machine is started with."""


def main(arguments: Optional[List[str]] = None) -> NoReturn:
    """Do what the command line says, and exit."""
    code = 1
    try:
        options = new_parser().parse(arguments)
        _poke(options)
        code = 0
    except TwitcherError as error:
        report_to_stderr('twitcherctl', str(error))
        code = 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        report_to_stderr('twitcherctl', f'stdin or stdout: {error.strerror}')
    except KeyboardInterrupt:
        report_to_stderr('twitcherctl', 'interrupted')
    os._exit(code)  # not to wait for kazoo's threads, which may be waiting for a server


def new_parser() -> Parser:
    """What the command line may hold."""
    parser = Parser(prog='twitcherctl', description='Work with Twitcher and what it watches.')
    parser.add_argument('--version', action='version', version=f'twitcherctl {__version__}')
    commands = parser.add_subparsers(metavar='COMMAND', required=True, dest='command')
    command = commands.add_parser(
        'poke', help='write to a znode, so that whoever watches it runs',
        description='Write to a znode, so that whoever watches it runs. Prints its new version.')
    add = command.add_argument
    add('znode', metavar='ZNODE', help='the absolute path of the znode')
    add('data', metavar='DATA', nargs='?', help="its new contents, or - to read them from stdin; without DATA it keeps what "
                                                "it has")
    add_ensemble_options(command, f'ZKSERVERS in {DEFAULTS} if it can be read, else {DEFAULT_SERVERS}')
    add('--no_create', action='store_true', help='fail if the znode does not exist, instead of making it and its parents')
    add('--wait', metavar='SECONDS', type=number(float, 0, 1e6, 'seconds'), default=DEFAULT_WAIT,
        help='how long to wait for ZooKeeper (default: %(default)g)')
    add('-q', '--quiet', action='store_true', help='print nothing but errors')
    return parser


def _poke(options: argparse.Namespace) -> None:
    fault = znode_fault(options.znode)
    if fault:
        raise UsageError(f'ZNODE {options.znode!r}: {fault}; allowed: an absolute path such as /git/head')
    ensemble = ensemble_of(options, configured_hosts() or DEFAULT_SERVERS)
    contents: Optional[bytes] = None
    if options.data == '-':
        contents = sys.stdin.buffer.read(MAX_CONTENTS + 1)
    elif options.data is not None:
        contents = os.fsencode(options.data)
    if contents is not None and len(contents) > MAX_CONTENTS:
        raise UsageError(f'DATA has more than {MAX_CONTENTS} bytes; allowed: no more, since a server takes 1 MiB at the most')
    result = poke(ensemble, options.znode, contents, not options.no_create, options.wait)
    if not options.quiet:
        if result.was_created:
            report_to_stderr('twitcherctl', f'{options.znode} did not exist: created')
        print(result.version, flush=True)


def configured_hosts() -> Optional[str]:
    """ZKSERVERS as the service's defaults set it; None if they do not, or cannot be read."""
    try:
        with open(DEFAULTS, encoding='utf-8', errors='surrogateescape') as file:
            lines = [shlex.split(line, comments=True) for line in file if line.startswith('ZKSERVERS=')]
    except (OSError, ValueError):
        return None
    words = [words[0] for words in lines if len(words) == 1]
    return words[-1].partition('=')[2] or None if words else None
