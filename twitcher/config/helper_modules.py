"""Helper modules: what lies below the configuration directory is importable from the
.twc files there.

Each load of a file executes the helpers that it imports anew, as modules of its own: an
edit takes effect, and no file sees what another has made of them. They are in
sys.modules only while their file, or a function of it, is executed. What a file does to
sys.path ends there, too. The standard library keeps its names, and modules from
elsewhere stay as Python has them.
"""

from __future__ import annotations

import os
import sys
import types
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from twitcher.config.scan import HELPER_SUFFIX, read
from twitcher.errors import ConfigError

CONTEXT = '__twitcher_helpers__'
"""The name under which the globals of a file and of its helpers hold the Helpers."""
_STANDARD = (os.path.dirname(os.__file__), os.path.join(os.path.dirname(os.__file__), 'lib-dynload'))
_IMPORTERS = ('importlib', 'importlib._bootstrap', 'importlib._bootstrap_external')
_NOTHING: Mapping[str, bytes] = types.MappingProxyType({})


class HelperCode:
    """What the loads of all files share: the code of each helper, compiled once, and
    which names a directory has."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._codes: Dict[str, Tuple[bytes, types.CodeType]] = {}
        self._names: Dict[str, Set[str]] = {}

    def begin(self) -> None:
        """Files are about to be loaded: look at the directories again."""
        self._names.clear()

    def compiled(self, path: str, text: bytes) -> types.CodeType:
        """The code of a helper. Raises SyntaxError, or ValueError."""
        known, code = self._codes.get(path, (None, None))
        if not code or known != text:
            code = compile(text, path, 'exec', dont_inherit=True)
            self._codes[path] = (text, code)
        return code

    def names(self, directory: str) -> Set[str]:
        """The names of the modules that lie in the directory, without those that the
        standard library has."""
        if directory not in self._names:
            try:
                found = os.listdir(directory)
            except OSError:
                found = []
            modules = {name[:-len(HELPER_SUFFIX)] for name in found if name.endswith(HELPER_SUFFIX)}
            packages = {name for name in found if name.isidentifier()
                        and os.path.exists(os.path.join(directory, name, '__init__' + HELPER_SUFFIX))}
            self._names[directory] = {name for name in modules | packages if not _is_standard(name)}
        return self._names[directory]


class Helpers:
    """The helpers of one load of the file at `path`.

    `texts` are those of an earlier load, which are executed again in the place of what
    lies on the disk.
    """

    __slots__ = ('modules', 'texts', 'candidates', '_path', '_code', '_given', '_sys_path', '__weakref__')

    def __init__(self, code: HelperCode, path: str, texts: Mapping[str, bytes] = _NOTHING) -> None:
        self.modules: Dict[str, types.ModuleType] = {}
        self.texts: Dict[str, bytes] = {}
        """Of all that were executed, by path."""
        self.candidates: Set[str] = set()
        """Where the imports would have found a helper, had there been one."""
        self._path = path
        self._code = code
        self._given = texts
        self._sys_path: Optional[List[str]] = None

    @contextmanager
    def importable(self) -> Iterator[Mapping[str, types.ModuleType]]:
        """What is executed in the block finds the helpers, and sys.path as it has left
        it. Yields those that have been imported, by name."""
        path, entries = sys.path, sys.path[:]
        hidden = {name: sys.modules.pop(name) for name in self._hiding()}
        if self._sys_path is not None:
            path[:] = self._sys_path
        sys.modules.update(self.modules)
        sys.meta_path.insert(0, self)
        try:
            yield self.modules
        finally:
            if sys.path != entries:
                self._sys_path = list(sys.path)
            sys.path = path
            path[:] = entries
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
            self.modules = {name: sys.modules.pop(name) for name in self.modules if name in sys.modules}
            sys.modules.update(hidden)

    def where(self, error: BaseException) -> str:
        """Which line of a helper an error came from, for the end of its message; empty
        if from none."""
        if isinstance(error, SyntaxError) and error.filename in self.candidates:
            return f' in {error.filename}:{error.lineno}'
        place, step = '', error.__traceback__
        while step:
            if step.tb_frame.f_code.co_filename in self.texts:
                place = f' in {step.tb_frame.f_code.co_filename}:{step.tb_lineno}'
            step = step.tb_next
        return place

    def find_spec(self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[types.ModuleType] = None
                  ) -> Optional[ModuleSpec]:
        """As importlib.abc.MetaPathFinder says."""
        if not self._is_asked_by_us():
            return None
        directories = self._directories() if path is None else [each for each in path if self._is_below(each)]
        if path is None and _is_standard(fullname):
            return None
        name = fullname.rpartition('.')[2]
        for directory in directories:
            base = os.path.join(directory, name)
            for place, package in ((os.path.join(base, '__init__' + HELPER_SUFFIX), [base]), (base + HELPER_SUFFIX, None)):
                text = self._text(place)
                if text is not None:
                    return self._spec(fullname, place, text, package)
        packages = [base for base in (os.path.join(each, name) for each in directories)
                    if os.path.isdir(base) or any(place.startswith(base + '/') for place in self._given)]
        if not packages or path is None and PathFinder.find_spec(fullname):
            return None
        spec = ModuleSpec(fullname, None, is_package=True)  # a package without __init__.py comes last, as ever
        spec.submodule_search_locations = packages
        self.modules[fullname] = types.ModuleType(fullname)
        return spec

    def _spec(self, fullname: str, place: str, text: bytes, package: Optional[List[str]]) -> ModuleSpec:
        self.texts[place] = text
        spec = ModuleSpec(fullname, _Loader(fullname, place, text, self, self._code), origin=place)
        spec.submodule_search_locations = package
        spec.has_location = True
        self.modules[fullname] = types.ModuleType(fullname)  # the name counts: the module is taken out of sys.modules
        return spec

    def _text(self, place: str) -> Optional[bytes]:
        """The helper that lies there, if one does. Raises ImportError if it cannot be
        read."""
        self.candidates.add(place)
        if place in self._given:
            return self._given[place]
        if not os.path.isfile(place):
            return None
        try:
            reading = read(place)
        except OSError as error:
            raise ImportError(f'{place}: cannot be read: {error.strerror}') from None
        if reading is None:
            raise ImportError(f'{place}: it is being written')
        if isinstance(reading[1], ConfigError):
            raise ImportError(str(reading[1]))
        return reading[1]

    def _directories(self) -> List[str]:
        """Where to look: the file's own directory, the root, and what the file has put
        into sys.path below the root."""
        below = [entry for entry in sys.path if isinstance(entry, str) and self._is_below(entry)]
        return list(dict.fromkeys([os.path.dirname(self._path), self._code.root, *below]))

    def _is_below(self, path: str) -> bool:
        return path.startswith(self._code.root.rstrip('/') + '/') or path == self._code.root

    def _hiding(self) -> List[str]:
        """The modules from elsewhere that are loaded already and have the name of a
        helper."""
        names = self._code.names(os.path.dirname(self._path)) | self._code.names(self._code.root)
        if not names or names.isdisjoint(sys.modules):
            return []
        return [name for name in sys.modules if name.partition('.')[0] in names]

    def _is_asked_by_us(self) -> bool:
        """Whether what imports is the file or a helper. A module from elsewhere stays,
        and must not keep a helper."""
        frame: Optional[types.FrameType] = sys._getframe(2)
        while frame and frame.f_globals.get('__name__') in _IMPORTERS:
            frame = frame.f_back
        return frame is not None and frame.f_globals.get(CONTEXT) is self


class _Loader(SourceFileLoader):
    """Executes the text that was found, and writes no .pyc."""

    def __init__(self, fullname: str, path: str, text: bytes, helpers: Helpers, code: HelperCode) -> None:
        super().__init__(fullname, path)
        self._text = text
        self._helpers = helpers
        self._code = code

    def get_code(self, fullname: str) -> types.CodeType:
        """As importlib.abc.InspectLoader says."""
        return self._code.compiled(str(self.path), self._text)

    def exec_module(self, module: types.ModuleType) -> None:
        """As importlib.abc.Loader says."""
        module.__dict__[CONTEXT] = self._helpers
        super().exec_module(module)


def _is_standard(name: str) -> bool:
    """Whether the standard library has a module of this name."""
    spec = None if name in sys.builtin_module_names else PathFinder.find_spec(name, _STANDARD)
    return name in sys.builtin_module_names or spec is not None and spec.loader is not None
