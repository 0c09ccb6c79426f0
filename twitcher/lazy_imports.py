"""Modules that our libraries import and that are hardly ever used: each is imported when something of it is used.

kazoo, asyncio and pyinotify import a good part of the standard library, OpenSSL with it, and a daemon that does not speak TLS
needs little of that: a fifth of its memory, and of the time that it takes to start (bench: memory, start). What a .twc file
imports is imported at once, as ever. importlib.util.LazyLoader does not do, as it gives in at the second import of a module.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, Iterator, Optional, Sequence

NAMES = frozenset((
    'asyncio.sslproto', 'ctypes.util', 'glob', 'hashlib', 'ipaddress', 'pickle', 'platform', 'shutil', 'ssl', 'tempfile',
    'uuid'))
"""What is not imported at once. Nothing of this is used while the modules that import it are executed, nor to report or
survive a fault: the machine may be out of descriptors then, and an import would be the next fault."""

# What the import looks for, and sets, while it makes a module.
_OF_EVERY_MODULE = ('__path__', '__file__', '__cached__')


@contextmanager
def lazy_imports() -> Iterator[None]:
    """While the block imports, put a stand-in in the place of each of NAMES, for those who import it, and for them alone."""
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
    """Has what the module has that it stands for."""

    def __getattr__(self, name: str) -> Any:
        if name in _OF_EVERY_MODULE:
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


class _Finder:
    """Finds the modules of NAMES: at first each once as a stand-in, and from then on where they were when it was made,
    whatever a .twc file puts into sys.path."""

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
        return _LazyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """As importlib.abc.Loader says."""
