"""Decides, by the names in its code, whether a file can reach the interpreter's state
and so needs isolation.

Most .twc files only call RegisterWatch and Exec, perhaps in a loop. Ten thousand of
those load without the cost of isolation.
"""

from __future__ import annotations

import builtins
import types
from opcode import opmap

_HARMLESS = frozenset((
    'abs', 'all', 'any', 'ascii', 'bin', 'bool', 'bytes', 'chr', 'dict', 'divmod', 'enumerate', 'filter', 'float',
    'frozenset', 'hex', 'int', 'isinstance', 'iter', 'len', 'list', 'map', 'max', 'min', 'next', 'oct', 'ord', 'pow', 'print',
    'range', 'repr', 'reversed', 'round', 'set', 'slice', 'sorted', 'str', 'sum', 'tuple', 'zip',
    'Exception', 'KeyError', 'RuntimeError', 'TypeError', 'ValueError'))
_REACHING = frozenset(vars(builtins)) - _HARMLESS
_IMPORT_NAME = opmap['IMPORT_NAME']
_FRAMES = ('_', 'ag_', 'co_', 'cr_', 'f_', 'gi_', 'tb_')
"""Prefixes of the attributes that lead from an object to its frame, globals or
class."""


def can_reach_interpreter(code: types.CodeType) -> bool:
    """False only if the code imports nothing and contains no name through which the
    interpreter's state can be reached."""
    if any(name in _REACHING or name.startswith(_FRAMES) for name in code.co_names) or _imports(code):
        return True
    return any(can_reach_interpreter(each) for each in code.co_consts if isinstance(each, types.CodeType))


def _imports(code: types.CodeType) -> bool:
    return _IMPORT_NAME in code.co_code[::2]
