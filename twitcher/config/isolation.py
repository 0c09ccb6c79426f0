"""Isolates the daemon and other files from what a .twc file does to the interpreter.

Changes are undone when the file has been loaded. Those that its own functions may rely
on, such as a changed sys.path, are made again in their processes. Calls that cannot be
undone are refused while the file is loading; any other lasting harm is reported as a
fault of the file.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import gc
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from functools import partial
from operator import is_
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from twitcher.config.deadline import signal_handlers
from twitcher.config.isolation_settings import OF_FUNCTIONS, OF_THE_PROCESS, Put, Setting, value_of
from twitcher.descriptors import KeptDescriptors
from twitcher.errors import SpecError

_MODULES = (builtins, sys, os, time, signal, threading, socket, select, subprocess, logging, warnings, gc, atexit)
"""The modules whose attributes are restored, because the daemon depends on them."""
_LISTS: Tuple[Tuple[Any, str], ...] = ((sys, 'path'), (sys, 'meta_path'), (sys, 'path_hooks'), (warnings, 'filters'))
_REFUSED = ('_exit', 'abort', 'execv', 'execve', 'setuid', 'setgid', 'setreuid', 'setregid', 'setresuid', 'setresgid', 'chroot')
_CLOSING = ('close', 'closerange', 'dup2')
_MISSING = object()
_BUILTINS = vars(builtins)


class Effects:
    """The changes that one file made to the interpreter: undone, but remembered for its
    functions.

    `faults` are changes that could not be undone; `threads` are the names of threads
    that the file left behind.
    """

    def __init__(self) -> None:
        self.faults: List[str] = []
        self.threads: List[str] = []
        self._settings: List[Tuple[Put, Any]] = []
        self._attributes: List[Tuple[Dict[Any, Any], Dict[Any, Any]]] = []
        self._exits: List[Tuple[Any, Any, Any]] = []

    def enter(self) -> None:
        """Make the changes again, in the process of a function."""
        for namespace, changed in self._attributes:
            namespace.update(changed)
        for put, value in self._settings:
            put(value)
        for function, args, kwargs in self._exits:
            atexit.register(function, *args, **kwargs)

    def restore(self, what: str, function: Callable[..., Any], *args: Any) -> None:
        """Call a function that restores something. It may meet objects of the file,
        whose methods may raise anything."""
        try:
            function(*args)
        except BaseException as error:
            self.faults.append(f'{what} cannot be restored: {type(error).__name__}')

    def restore_attributes(self, namespace: Dict[Any, Any], before: Dict[Any, Any]) -> None:
        """Restore a namespace, except for submodules that were imported."""
        if len(namespace) == len(before) and all(map(is_, before.values(), namespace.values())):
            return
        changed = {name: value for name, value in list(namespace.items()) if value is not before.get(name, _MISSING)
                   and not (name not in before and isinstance(value, ModuleType))}
        for name in changed:
            if name not in before:
                del namespace[name]
        namespace.update(before)
        if changed:
            self._attributes.append((namespace, changed))

    def restore_list(self, holder: Any, name: str, now: Any, the_list: List[Any], before: List[Any]) -> None:
        """Restore a list in place, and the name that leads to it. `now` is the object
        under that name when the file ended."""
        items = list(now)
        if now is not the_list or len(items) != len(before) or not all(map(is_, items, before)):
            the_list[:] = before
            self._settings.append((lambda value: setattr(holder, name, value), items))

    def restore_settings(self, settings: Tuple[Setting, ...], before: List[Any], of_functions: bool) -> None:
        """Restore each setting, even if others cannot be restored."""
        for (name, get, put), value in zip(settings, before):
            now = value_of(get)
            if now != value and value is not None:
                self.restore(name, put, value)
                if of_functions:
                    self._settings.append((put, now))

    def restore_modules(self, modules: Dict[str, Any], before: Dict[str, Any]) -> None:
        """Restore sys.modules: modules that were there before come back, and entries
        that block an import or are no real modules go. Other imports stay."""
        if not all(map(is_, before.values(), map(modules.get, before))):
            modules.update({name: value for name, value in before.items() if modules.get(name) is not value})
        if len(modules) != len(before):
            for name in [name for name in list(modules) if name not in before]:
                value = modules[name]
                if value is None or (type(value) is ModuleType and value.__dict__.get('__spec__') is None):
                    del modules[name]

    def registers(self, is_own: Callable[[Any], bool], libraries: List[Tuple[Any, Any, Any]]) -> Callable[..., Any]:
        """A replacement for atexit.register while the file is loading: the daemon must
        not call these functions when it exits."""
        def register(function: Any, *args: Any, **kwargs: Any) -> Any:
            """As atexit.register."""
            own = is_own(sys._getframe(1).f_globals)
            (self._exits if own else libraries).append((function, args, kwargs))
            return function

        return register


class Isolation:
    """The isolation of all files; `isolated` surrounds the load of each one."""

    def __init__(self) -> None:
        self._exits_of_libraries: List[Tuple[Any, Any, Any]] = []
        self._are_pairs: Dict[int, bool] = {}
        self._descriptors: Optional[KeptDescriptors] = None
        os.register_at_fork(after_in_child=self._close_in_fork)

    def enter(self) -> None:
        """In the process of a function: register what libraries have registered with
        atexit while a file was loading."""
        for function, args, kwargs in self._exits_of_libraries:
            atexit.register(function, *args, **kwargs)

    @contextmanager
    def isolated(self, is_own: Callable[[Any], bool]) -> Iterator[Effects]:
        """Undo what the block does to the interpreter. If the block forks, exit in the
        child: it must not continue as a second daemon.

        `is_own` tells whether a dict is the globals of the file.
        """
        pid, effects, before = os.getpid(), Effects(), _Snapshot(self._are_pairs)
        asyncio._set_running_loop(None)
        self._descriptors = before.descriptors
        try:
            with _refusing(before.descriptors, pid):
                atexit.register = effects.registers(is_own, self._exits_of_libraries)
                guarded = [(vars(module), vars(module).copy()) for module in (os, atexit)]
                try:
                    yield effects
                finally:
                    _BUILTINS.update(before.builtins)  # needed by the rest of this function
                    if os.getpid() != pid:
                        _end_copy()
                    before.note_lists()
                    for namespace, guards in guarded:
                        effects.restore('os', effects.restore_attributes, namespace, guards)
        finally:
            self._descriptors = None
            before.restore(effects)

    def _close_in_fork(self) -> None:
        if self._descriptors:
            self._descriptors.close_in_fork()


_end_copy = partial(os._exit, 0)


class _Snapshot:
    """The state of the interpreter before a file is loaded."""

    def __init__(self, are_pairs: Dict[int, bool]) -> None:
        self.builtins = _BUILTINS.copy()
        self.descriptors = KeptDescriptors(are_pairs)
        self._handlers = signal_handlers()
        self._threads = threading.enumerate()
        self._loop = asyncio._get_running_loop()
        self._of_functions = [value_of(get) for _, get, _ in OF_FUNCTIONS]
        self._of_the_process = [value_of(get) for _, get, _ in OF_THE_PROCESS]
        self._attributes = [(vars(module), vars(module).copy()) for module in _MODULES]
        self._environment = _environment().copy()
        self._lists = [(holder, name, getattr(holder, name), list(getattr(holder, name))) for holder, name in _LISTS]
        self._now: List[Any] = []
        self._modules, self._imported = sys.modules, sys.modules.copy()

    def note_lists(self) -> None:
        """Remember the present lists before the attributes that hold them are
        restored."""
        self._now = [getattr(holder, name, ()) for holder, name in _LISTS]

    def restore(self, effects: Effects) -> None:
        """Restore everything, and note in `effects` what was different."""
        asyncio._set_running_loop(self._loop)
        for namespace, before in self._attributes:
            effects.restore('the attributes of a module', effects.restore_attributes, namespace, before)
        for (holder, name, the_list, items), now in zip(self._lists, self._now):
            effects.restore(f'{holder.__name__}.{name}', effects.restore_list, holder, name, now, the_list, items)
        effects.restore('sys.modules', effects.restore_modules, self._modules, self._imported)
        effects.restore('os.environ', _restore_environment, self._environment)
        effects.restore_settings(OF_FUNCTIONS, self._of_functions, of_functions=True)
        effects.restore_settings(OF_THE_PROCESS, self._of_the_process, of_functions=False)
        for (number, handler), (_, now) in zip(self._handlers, signal_handlers()):
            if handler is not None and now is not handler:
                signal.signal(number, handler)
        lost = self.descriptors.put_back()
        if lost:
            effects.faults.append('it closed descriptors of the daemon (' + ', '.join(map(str, sorted(lost))) + '), or '
                                  'replaced them; allowed: to close what it has opened itself')
        effects.threads = [thread.name for thread in threading.enumerate() if thread not in self._threads]


@contextmanager
def _refusing(descriptors: KeptDescriptors, pid: int) -> Iterator[None]:
    """Refuse calls that would end the daemon or change it for good. They are allowed in
    a process that the file forks, and in other threads."""
    thread, is_loading = threading.get_ident(), [True]

    def refused(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A replacement for the function. A library may keep it, so it must work after
        the load as well."""
        def guard(*args: Any, **kwargs: Any) -> Any:
            """Call the function, or raise SpecError."""
            if is_loading and os.getpid() == pid and threading.get_ident() == thread:
                if name in _REFUSED:
                    raise SpecError(f'os.{name} was called while the file was being loaded: that would affect the daemon '
                                    'itself; allowed: in a function that is an action')
                closed = range(*args[:2]) if name == 'closerange' else args[name == 'dup2':][:1]
                for number in descriptors.numbers.intersection(closed):
                    raise SpecError(f'os.{name}: descriptor {number} is the daemon\'s; allowed: to close what the file has '
                                    'opened itself')
            return function(*args, **kwargs)

        return guard

    originals = {name: getattr(os, name) for name in (*_REFUSED, *_CLOSING)}
    for name, function in originals.items():
        setattr(os, name, refused(name, function))
    register = atexit.register
    try:
        yield
    finally:
        is_loading.clear()
        atexit.register = register
        for name, function in originals.items():
            setattr(os, name, function)


def _environment() -> Dict[Any, Any]:
    """The dict in which os.environ keeps its variables."""
    return os.environ._data  # type: ignore[attr-defined,no-any-return]


def _restore_environment(before: Dict[Any, Any]) -> None:
    data = _environment()
    if data != before:
        for name in data.keys() - before.keys():
            os.unsetenv(name)
        for name, value in before.items():
            os.putenv(name, value)
        data.clear()
        data.update(before)


ISOLATION = Isolation()
