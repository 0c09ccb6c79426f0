"""Parses Twitcher's command lines: long options with underscores or hyphens alike,
errors as UsageError. Also has the options that twitcher and twitcherctl share."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Callable, List, NoReturn, Optional, Sequence

from twitcher.errors import UsageError
from twitcher.zookeeper.ensemble import Ensemble

DEFAULT_SERVERS = 'localhost:2181'


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose long options are defined with underscores and may also be
    given with hyphens."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse(self, arguments: Optional[Sequence[str]]) -> argparse.Namespace:
        """The options. Without `arguments`, those of the process. Raises UsageError."""
        return self.parse_args(_with_underscores(sys.argv[1:] if arguments is None else arguments))

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, where argparse would print the usage and exit."""
        raise UsageError(f'{message}; see {self.prog} --help')


def add_ensemble_options(parser: argparse.ArgumentParser, default: str = DEFAULT_SERVERS) -> None:
    """Add --zkservers, which is None if it is not given. `default` is for the help."""
    parser.add_argument('--zkservers', metavar='HOST:PORT,...[/CHROOT]', help=f'the ZooKeeper ensemble (default: {default})')


def ensemble_of(options: argparse.Namespace, default: str = DEFAULT_SERVERS) -> Ensemble:
    """The ensemble named by the options, or by `default`. Raises UsageError."""
    return Ensemble.parse(default if options.zkservers is None else options.zkservers)


def number(kind: Callable[[str], float], least: float, most: float, what: str) -> Callable[[str], float]:
    """A type for add_argument: a number within limits. `what` describes it in
    errors."""
    def parse(text: str) -> float:
        """The text as a number. Raises ArgumentTypeError."""
        try:
            value = kind(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f'{text!r} is not allowed; allowed: {what} from {least:g} to {most:.0f}')
        return value

    return parse


def _with_underscores(arguments: Sequence[str]) -> List[str]:
    result = list(arguments)
    end = result.index('--') if '--' in result else len(result)
    for index, argument in enumerate(result[:end]):
        if argument.startswith('--'):
            name, equals, value = argument.partition('=')
            result[index] = '--' + name[2:].replace('-', '_') + equals + value
    return result
