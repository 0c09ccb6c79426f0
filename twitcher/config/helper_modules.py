"""Helper modules: modules below the configuration directory, which .twc files can
import.

Each load of a file executes the helpers that it imports again, as modules of its own:
an edit takes effect, and files do not share what they change in a helper. The helpers
are in sys.modules, and a file's changes to sys.path in force, only while the file or a
function of it is executed. A helper never replaces a module of the standard library.
Modules from elsewhere are imported and shared as usual.
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
    """Shared by the loads of all files: the compiled code of each helper, and the names
    of the modules in each directory."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._codes: Dict[str, Tuple[bytes, types.CodeType]] = {}
        self._names: Dict[str, Set[str]] = {}

    def begin(self) -> None:
        """Forget the names of the modules, before files are loaded."""
        self._names.clear()

    def compiled(self, path: str, text: bytes) -> types.CodeType:
        """The code of a helper. Raises SyntaxError, or ValueError."""
        known, code = self._codes.get(path, (None, None))
        if not code or known != text:
            code = compile(text, path, 'exec', dont_inherit=True)
            self._codes[path] = (text, code)
        return code

    def names(self, directory: str) -> Set[str]:
        """The names of the modules in the directory, except those that the standard
        library has, too."""
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

    `texts` are the helpers of an earlier load, by path. They are executed instead of
    the files on the disk.
    """

    __slots__ = ('modules', 'texts', 'candidates', '_path', '_code', '_saved_texts', '_sys_path', '__weakref__')

    def __init__(self, code: HelperCode, path: str, texts: Mapping[str, bytes] = _NOTHING) -> None:
        self.modules: Dict[str, types.ModuleType] = {}
        self.texts: Dict[str, bytes] = {}
        """The texts of the helpers that were executed, by path."""
        self.candidates: Set[str] = set()
        """The paths where the imports have looked for a helper."""
        self._path = path
        self._code = code
        self._saved_texts = texts
        self._sys_path: Optional[List[str]] = None

    @contextmanager
    def importable(self) -> Iterator[Mapping[str, types.ModuleType]]:
        """Make the helpers importable in the block, with sys.path as the last block has
        left it. Yields the imported helpers by name."""
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
        """The line of a helper that raised the error, for the end of its message; empty
        if none did."""
        if isinstance(error, SyntaxError) and error.filename in self.candidates:
            return f' in {error.filename}:{error.lineno}'
        location, step = '', error.__traceback__
        while step:
            if step.tb_frame.f_code.co_filename in self.texts:
                location = f' in {step.tb_frame.f_code.co_filename}:{step.tb_lineno}'
            step = step.tb_next
        return location

    def find_spec(self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[types.ModuleType] = None
                  ) -> Optional[ModuleSpec]:
        """As importlib.abc.MetaPathFinder says."""
        if not self._is_file_importing():
            return None
        directories = self._directories() if path is None else [each for each in path if self._is_below(each)]
        if path is None and _is_standard(fullname):
            return None
        name = fullname.rpartition('.')[2]
        for directory in directories:
            base = os.path.join(directory, name)
            for candidate, package in ((os.path.join(base, '__init__' + HELPER_SUFFIX), [base]), (base + HELPER_SUFFIX, None)):
                text = self._text(candidate)
                if text is not None:
                    return self._spec(fullname, candidate, text, package)
        packages = [base for base in (os.path.join(each, name) for each in directories)
                    if os.path.isdir(base) or any(candidate.startswith(base + '/') for candidate in self._saved_texts)]
        if not packages or path is None and PathFinder.find_spec(fullname):
            return None
        spec = ModuleSpec(fullname, None, is_package=True)  # a package without __init__.py comes last, as in Python
        spec.submodule_search_locations = packages
        self.modules[fullname] = types.ModuleType(fullname)
        return spec

    def _spec(self, fullname: str, path: str, text: bytes, package: Optional[List[str]]) -> ModuleSpec:
        self.texts[path] = text
        spec = ModuleSpec(fullname, _Loader(fullname, path, text, self, self._code), origin=path)
        spec.submodule_search_locations = package
        spec.has_location = True
        self.modules[fullname] = types.ModuleType(fullname)  # only its name is used, to take it out of sys.modules
        return spec

    def _text(self, path: str) -> Optional[bytes]:
        """The text of the helper at this path, if there is one. Raises ImportError if
        it cannot be read."""
        self.candidates.add(path)
        if path in self._saved_texts:
            return self._saved_texts[path]
        if not os.path.isfile(path):
            return None
        try:
            reading = read(path)
        except OSError as error:
            raise ImportError(f'{path}: cannot be read: {error.strerror}') from None
        if reading is None:
            raise ImportError(f'{path}: it is being written')
        if isinstance(reading[1], ConfigError):
            raise ImportError(str(reading[1]))
        return reading[1]

    def _directories(self) -> List[str]:
        """The directories to search: the file's own, the root, and those below the root
        that the file has added to sys.path."""
        below = [entry for entry in sys.path if isinstance(entry, str) and self._is_below(entry)]
        return list(dict.fromkeys([os.path.dirname(self._path), self._code.root, *below]))

    def _is_below(self, path: str) -> bool:
        return path.startswith(self._code.root.rstrip('/') + '/') or path == self._code.root

    def _hiding(self) -> List[str]:
        """The loaded modules from elsewhere whose names a helper has, too."""
        names = self._code.names(os.path.dirname(self._path)) | self._code.names(self._code.root)
        if not names or names.isdisjoint(sys.modules):
            return []
        return [name for name in sys.modules if name.partition('.')[0] in names]

    def _is_file_importing(self) -> bool:
        """Whether the file or a helper is importing. A module from elsewhere is shared
        by all files, and must not refer to the helper of one."""
        frame: Optional[types.FrameType] = sys._getframe(2)
        while frame and frame.f_globals.get('__name__') in _IMPORTERS:
            frame = frame.f_back
        return frame is not None and frame.f_globals.get(CONTEXT) is self


class _Loader(SourceFileLoader):
    """Executes a text that was read before, and writes no .pyc."""

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
