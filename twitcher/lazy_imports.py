"""Postpones imports that our libraries hardly ever need until they are first used.

kazoo, asyncio and pyinotify import a good part of the standard library, including
OpenSSL. A daemon that does not use TLS needs little of it, and this saves a fifth of
its memory and of its start time (bench: memory, start). Imports by .twc files are not
postponed. importlib.util.LazyLoader is no help here: it loads a module as soon as it is
imported a second time.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import FunctionType, MethodType, ModuleType
from typing import Any, Iterator, Optional, Sequence

NAMES = frozenset((
    'asyncio.sslproto', 'ctypes.util', 'dis', 'glob', 'hashlib', 'inspect', 'ipaddress', 'pickle', 'platform', 'shutil', 'ssl',
    'tempfile', 'uuid'))
"""The modules to postpone. None is used while the modules that import it are being
executed, and none to report or survive a fault: descriptors may be exhausted then, so
that the import would fail as well."""

# The import system reads and sets these on every new module.
_OF_EVERY_MODULE = ('__path__', '__file__', '__cached__')
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE


@contextmanager
def lazy_imports() -> Iterator[None]:
    """Replace each of NAMES by a lazy module for the modules that the block imports,
    and for no others."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.postponable.clear()
        for name in NAMES:
            if isinstance(sys.modules.get(name), _LazyModule):
                del sys.modules[name]


class _LazyModule(ModuleType):
    """Imports its module when an attribute is first used."""

    def __getattr__(self, name: str) -> Any:
        if name in _OF_EVERY_MODULE:
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


class _Inspect(_LazyModule):
    """Has its own versions of what asyncio and kazoo use of `inspect` in every daemon:
    when a client is made, when a signal handler is added, and when the exception of a
    callback is reported."""

    @staticmethod
    def isclass(value: object) -> bool:
        """As inspect.isclass."""
        return isinstance(value, type)

    @staticmethod
    def isfunction(value: object) -> bool:
        """As inspect.isfunction."""
        return isinstance(value, FunctionType)

    @staticmethod
    def unwrap(function: Any) -> Any:
        """As inspect.unwrap."""
        while hasattr(function, '__wrapped__'):
            function = function.__wrapped__
        return function

    @staticmethod
    def iscoroutinefunction(function: Any) -> bool:
        """As inspect.iscoroutinefunction, which knows more once it has been
        imported."""
        if 'inspect' in sys.modules:
            return bool(sys.modules['inspect'].iscoroutinefunction(function))
        while isinstance(function, (MethodType, partial)):
            function = function.__func__ if isinstance(function, MethodType) else function.func
        return isinstance(function, FunctionType) and bool(function.__code__.co_flags & _CO_COROUTINE)


class _Finder:
    """Finds the modules of NAMES: each once as a lazy module, and after that on the
    sys.path as it was at the start, even if a .twc file has changed sys.path."""

    def __init__(self) -> None:
        self.postponable = set(NAMES)
        self._path = sys.path[:]

    def find_spec(self, fullname: str, path: Optional[Sequence[str]], target: Optional[ModuleType] = None
                  ) -> Optional[ModuleSpec]:
        """As importlib.abc.MetaPathFinder says."""
        if fullname not in NAMES:
            return None
        spec = PathFinder.find_spec(fullname, self._path if path is None else path, target)
        if spec and fullname in self.postponable:
            self.postponable.remove(fullname)
            spec.loader = self  # type: ignore[assignment]  # importlib.abc takes as long to import as all this saves
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """As importlib.abc.Loader says."""
        return (_Inspect if spec.name == 'inspect' else _LazyModule)(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """As importlib.abc.Loader says."""
