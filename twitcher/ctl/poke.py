"""twitcherctl poke: writes to a znode, so that every watch on it runs."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Optional

from twitcher.ctl.service import DEFAULTS, configured_servers
from twitcher.errors import UsageError
from twitcher.log import report_to_stderr
from twitcher.options import DEFAULT_SERVERS, Parser, add_ensemble_options, ensemble_of, number
from twitcher.znode import znode_fault
from twitcher.zookeeper.poke import MAX_CONTENTS, poke

DEFAULT_WAIT = 10.0


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Define the command. Its options get `run`, which carries it out."""
    command = commands.add_parser(
        'poke', help='write to a znode, so that every watch on it runs',
        description='Write to a znode, so that every watch on it runs. Prints its new version.')
    command.set_defaults(run=_run)
    add = command.add_argument
    add('znode', metavar='ZNODE', help='the absolute path of the znode')
    add('data', metavar='DATA', nargs='?',
        help='its new contents, or - to read them from stdin; without DATA it keeps its contents')
    add_ensemble_options(command, f'ZKSERVERS in {DEFAULTS} if it can be read, else {DEFAULT_SERVERS}')
    add('--no_create', action='store_true', help='fail if the znode does not exist, instead of creating it and its parents')
    add('--wait', metavar='SECONDS', type=number(float, 0, 1e6, 'seconds'), default=DEFAULT_WAIT,
        help='how long to wait for ZooKeeper (default: %(default)g)')
    add('-q', '--quiet', action='store_true', help='print nothing but errors')


def _run(options: argparse.Namespace) -> None:
    fault = znode_fault(options.znode)
    if fault:
        raise UsageError(f'ZNODE {options.znode!r}: {fault}; allowed: an absolute path such as /git/head')
    ensemble = ensemble_of(options, configured_servers() or DEFAULT_SERVERS)
    result = poke(ensemble, options.znode, _contents(options.data), not options.no_create, options.wait)
    if not options.quiet:
        if result.was_created:
            report_to_stderr('twitcherctl', f'{options.znode} did not exist: created')
        print(result.version, flush=True)


def _contents(data: Optional[str]) -> Optional[bytes]:
    """The bytes to write; None to keep the present ones. Raises UsageError."""
    contents: Optional[bytes] = None
    if data == '-':
        contents = sys.stdin.buffer.read(MAX_CONTENTS + 1)
    elif data is not None:
        contents = os.fsencode(data)
    if contents is not None and len(contents) > MAX_CONTENTS:
        raise UsageError(f'DATA has more than {MAX_CONTENTS} bytes; allowed: no more, since a server takes 1 MiB at the most')
    return contents
