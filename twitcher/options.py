"""How Twitcher's command lines are parsed: long options with underscores or hyphens alike, errors as UsageError."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Callable, List, NoReturn, Optional, Sequence

from twitcher.errors import UsageError

DEFAULT_HOSTS = 'localhost:2181'


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose long options are defined with underscores and understood with hyphens, too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def parse(self, arguments: Optional[Sequence[str]]) -> argparse.Namespace:
        """The options; None stands for the process's own arguments. Raises UsageError."""
        return self.parse_args(_with_underscores(sys.argv[1:] if arguments is None else arguments))

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage and leaving."""
        raise UsageError(f'{message}; see {self.prog} --help')


def number(kind: Callable[[str], float], least: float, most: float, what: str) -> Callable[[str], float]:
    """A type for an option's number; `what` describes it in an error."""
    def parse(text: str) -> float:
        """The number that the text says. Raises ArgumentTypeError."""
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
