"""Actions: the commands of Exec and the functions of a file, and whether two of them
are the same action.

Starts no process: runs/child.py does that.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
import threading
import types
from contextlib import contextmanager
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Mapping,
    NoReturn,
    Optional,
    Protocol,
    Set,
    TextIO,
    Tuple,
    Union,
)

from twitcher.config import shell
from twitcher.errors import SpecError

Action = Callable[[], Any]

# Flags of code: inspect has the names, and takes longer to import than all of config/.
_CO_GENERATOR, _CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200


_loading = threading.Event()


@contextmanager
def being_loaded() -> Iterator[None]:
    """Calling an Exec object while its file is loading is an error: it would replace
    the daemon."""
    _loading.set()
    try:
        yield
    finally:
        _loading.clear()


class Exec:
    """Exec(command): a callable that replaces its process with the command.

    A string is run by `/bin/sh -c`. A list of strings is executed exactly, with its
    first item looked up in PATH. Raises SpecError for anything else.
    """

    __slots__ = ('command',)

    def __init__(self, command: Union[str, List[str], Tuple[str, ...]]) -> None:
        if isinstance(command, str):
            words: Tuple[Any, ...] = (command,)
        elif isinstance(command, (list, tuple)):
            words = tuple(command)
        else:
            words = ()
        if not words or not words[0] or not all(isinstance(word, str) and '\0' not in word for word in words):
            raise SpecError(f'Exec({command!r}): allowed: a shell command as a string, or a list of strings that '
                            'begins with the program; neither empty nor holding NUL')
        self.command = command if isinstance(command, str) else words  # a copy: the file may change its list

    @property
    def argv(self) -> Tuple[str, ...]:
        """The program and its arguments, as passed to exec."""
        return shell.argv(self.command) if isinstance(self.command, str) else tuple(self.command)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exec) and self.command == other.command

    def __hash__(self) -> int:
        return hash(self.argv)

    def __repr__(self) -> str:
        return f'Exec(command={self.command!r})'

    def __call__(self) -> NoReturn:
        if _loading.is_set():
            raise SpecError(f'Exec({self.command!r}) was called while its file was being loaded: that would replace the '
                            'daemon; allowed: Exec(...) as an action, Exec(...)() inside a function that is one')
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(self.argv[0], self.argv)


class FileContext(Protocol):
    """The context that a file has set up for its functions: its globals, its helpers,
    and settings of the interpreter."""

    module: types.ModuleType

    def enter(self, stdout: TextIO, stderr: TextIO) -> None:
        """Set it up again in the process of a function, whose streams these are."""

    def importable(self) -> ContextManager[Mapping[str, types.ModuleType]]:
        """Make the file's helpers importable inside the block. Yields the imported ones
        by name."""


class FileFunction:
    """A function of a file, or another callable, with the context that the file set
    up."""

    __slots__ = ('function', 'context')

    def __init__(self, function: Action, context: FileContext) -> None:
        self.function = function
        self.context = context

    def __call__(self) -> Any:
        return self.function()


def checked_action(action: Any) -> Action:
    """The action, if a call without arguments is possible and does the work. Raises
    SpecError."""
    fault = 'it cannot be called' if not callable(action) else None
    if fault is None and not isinstance(action, Exec):
        fault = _function_fault(action)
    if fault:
        raise SpecError(f'action={action!r}: {fault}; allowed: Exec(...), or a function that takes no arguments')
    return action  # type: ignore[no-any-return]


def _function_fault(action: Any) -> Optional[str]:
    """Why a call without arguments would fail or do nothing. None also for callables
    that are not written in Python."""
    given = 0
    names: Set[str] = set()
    while isinstance(action, functools.partial):
        given, names = given + len(action.args), names | set(action.keywords)
        action = action.func
    if not isinstance(action, (type, types.FunctionType, types.MethodType)):
        action = getattr(type(action), '__call__', None)  # noqa: B004  # not whether, but which
        given += isinstance(action, types.FunctionType)
    if isinstance(action, types.MethodType):
        action, given = action.__func__, given + 1
    if not isinstance(action, types.FunctionType):
        return None
    code = action.__code__
    if code.co_flags & (_CO_COROUTINE | _CO_ASYNC_GENERATOR):
        return 'it is an async function, which has to be run by asyncio.run'
    if code.co_flags & _CO_GENERATOR:
        return 'it is a generator function, which does nothing when it is called'
    needed = code.co_varnames[:code.co_argcount - len(action.__defaults__ or ())][given:]
    keywords = code.co_varnames[code.co_argcount:code.co_argcount + code.co_kwonlyargcount]
    missing = [name for name in (*needed, *(name for name in keywords if name not in (action.__kwdefaults__ or {})))
               if name not in names]
    return f'it needs arguments: {", ".join(missing)}' if missing else None


def outline(action: Any) -> str:
    """A text that identifies an action after an edit, and to a later daemon: the words
    of a command, or the name of a function and the values that it was made with.

    Unlike a function's code it does not depend on the version of Python. Different
    actions may have the same outline; `identity` tells them apart.
    """
    try:
        return _outline(action.function if isinstance(action, FileFunction) else action, set())
    except BaseException:  # the methods of a file's own objects may raise anything
        return type(action).__name__


def _outline(value: Any, seen: Set[int]) -> str:
    """`seen` are the ids of the values so far, which may contain themselves."""
    if isinstance(value, Exec):
        return f'Exec({value.command!r})'
    if type(value) in (str, bytes, int, float, bool, type(None)):
        return repr(value)
    if id(value) in seen:
        return '...'
    seen.add(id(value))
    if isinstance(value, (tuple, list)):
        parts: List[Any] = list(value)
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *sorted(value.keywords.items())]
    elif isinstance(value, types.FunctionType):
        parts = [*(value.__defaults__ or ()), *sorted((value.__kwdefaults__ or {}).items()),
                 *(cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))]
        if value.__name__ == '<lambda>':  # every lambda has this name
            parts += [name for name in value.__code__.co_names if not name.startswith('__')]
            parts += [constant for constant in value.__code__.co_consts if isinstance(constant, str)]
    else:
        parts = []
    name = value.__qualname__ if isinstance(value, (types.FunctionType, types.BuiltinFunctionType)) else type(value).__name__
    return f'{name}({", ".join(_outline(part, seen) for part in parts)})'


def identity(action: Any) -> Any:
    """A value that is equal for two actions that do the same, even if their file was
    executed again in between.

    Functions are the same if their code, defaults and closures are. Line numbers and
    the globals of the file do not count. Other callables are compared with `==`.
    """
    return _identity(action.function if isinstance(action, FileFunction) else action, {})


def _identity(value: Any, seen: Dict[int, int]) -> Any:
    """`seen` numbers the containers and functions so far, by id: they may contain
    themselves and each other."""
    if isinstance(value, (functools.partial, types.FunctionType, tuple, list)):
        if id(value) in seen:
            return ('already seen', seen[id(value)])
        seen[id(value)] = len(seen)
    if isinstance(value, functools.partial):
        return ('partial', _identity(value.func, seen), _identity(value.args, seen),
                [(name, _identity(item, seen)) for name, item in sorted(value.keywords.items())])
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        keywords = sorted((value.__kwdefaults__ or {}).items())
        return ('function', _identity(value.__code__, seen), _identity(value.__defaults__, seen),
                [(name, _identity(item, seen)) for name, item in keywords], [_identity(cell, seen) for cell in cells])
    if isinstance(value, types.CodeType):
        return ('code', value.co_name, value.co_names, value.co_varnames, value.co_freevars, value.co_argcount,
                value.co_kwonlyargcount, value.co_flags, getattr(value, 'co_exceptiontable', b''), _body(value, seen))
    if isinstance(value, (tuple, list)):
        return (type(value), [_identity(item, seen) for item in value])
    # 1, 1.0 and True are equal to each other, but not the same constant.
    return (type(value), value)


def _body(code: types.CodeType, seen: Dict[int, int]) -> Any:
    """The instructions and constants, without the first line number that Python 3.13
    stores in a class body."""
    if '__firstlineno__' not in code.co_names:
        return (code.co_code, _identity(code.co_consts, seen))
    instructions = list(dis.get_instructions(code))
    return [(each.opcode, _identity(each.argval, seen) if each.opcode in dis.hasconst else each.arg)
            for each, following in zip(instructions, instructions[1:]) if following.argval != '__firstlineno__']


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
