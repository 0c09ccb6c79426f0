"""Prints the manual's table of the arguments of RegisterWatch, with what is allowed as the errors tell it.

`python -m tests.packaging.argument_table` writes what stands in twitcher.twc(5) between START and END.
"""

from __future__ import annotations

import inspect
from enum import Enum
from typing import Any, Dict

from twitcher.config.action import Exec
from twitcher.config.arguments import make_spec
from twitcher.errors import SpecError

START = r'.\" Printed by python -m tests.packaging.argument_table:'
END = r'.\" End of what is printed.'


def shown(default: Any) -> str:
    """A default as a file would write it; nothing for an argument that has none."""
    if default is inspect.Parameter.empty:
        return ''
    return str(default.value) if isinstance(default, Enum) else repr(default)


def allowed(argument: str) -> str:
    """What the error for a wrong value says is allowed."""
    arguments: Dict[str, Any] = {'znode': '/a', 'action': Exec('x'), argument: object()}
    try:
        make_spec(**arguments)
    except SpecError as error:
        return str(error).rpartition('allowed: ')[2]
    raise AssertionError(f'{argument} may be anything')


def table() -> str:
    """The table, as mdoc(7)."""
    lines = ['.Bl -column "run_on_delete" "WATCH_DATA"', '.It Sy Argument Ta Sy Default Ta Sy Allowed']
    for name, parameter in inspect.signature(make_spec).parameters.items():
        cells = f'.It Fa {name} Ta {shown(parameter.default)} Ta {allowed(name)}'
        lines.append(cells.replace('  ', ' ').replace("'", r'\(aq'))
    return '\n'.join([*lines, '.El'])


if __name__ == '__main__':
    print(table())
