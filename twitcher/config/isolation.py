"""Keeps what a .twc file does to the interpreter from the daemon and from other files.

What the file changed is put back when it has been loaded. What only its own functions can miss, such as sys.path, is in
force again in their processes. What cannot be put back is refused while the file is loaded, or reported as its fault.
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
from twitcher.config.isolation_settings import OF_FUNCTIONS, OF_THE_PROCESS, Put, value_of
from twitcher.descriptors import KeptDescriptors
from twitcher.errors import SpecError

_MODULES = (builtins, sys, os, time, signal, threading, socket, select, subprocess, logging, warnings, gc, atexit)
"""Modules whose attributes are put back: those without which nothing works."""
_LISTS: Tuple[Tuple[Any, str], ...] = ((sys, 'path'), (sys, 'meta_path'), (sys, 'path_hooks'), (warnings, 'filters'))
_REFUSED = ('_exit', 'abort', 'execv', 'execve', 'setuid', 'setgid', 'setreuid', 'setregid', 'setresuid', 'setresgid', 'chroot')
_CLOSING = ('close', 'closerange', 'dup2')
_MISSING = object()
_BUILTINS = vars(builtins)

class Kept:
    """What one file did to the interpreter."""

    def __init__(self) -> None:
        self.faults: List[str] = []
        self.threads: List[str] = []
        self._settings: List[Tuple[Put, Any]] = []
        self._attributes: List[Tuple[Dict[Any, Any], Dict[Any, Any]]] = []
        self._exits: List[Tuple[Any, Any, Any]] = []

    def enter(self) -> None:
        """In the process of a function: do it again."""
        for namespace, changed in self._attributes:
            namespace.update(changed)
        for put, value in self._settings:
            put(value)
        for function, args, kwargs in self._exits:
            atexit.register(function, *args, **kwargs)

    def put_back(self, what: str, function: Callable[..., Any], *args: Any) -> None:
        """Call the function, which may meet the file's own objects."""
        try:
            function(*args)
        except BaseException as error:
            self.faults.append(f'{what} cannot be put back as it was: {type(error).__name__}')

    def put_back_attributes(self, namespace: Dict[Any, Any], before: Dict[Any, Any]) -> None:
        """Names that lead elsewhere, or nowhere, lead where they did; submodules that were imported stay."""
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

    def put_back_list(self, holder: Any, name: str, now: Any, the_list: List[Any], before: List[Any]) -> None:
        """`now` is what the name led to at the end."""
        items = list(now)
        if now is not the_list or len(items) != len(before) or not all(map(is_, items, before)):
            the_list[:] = before
            self._settings.append((lambda value: setattr(holder, name, value), items))

    def put_back_settings(self, settings: Tuple[Tuple[Callable[[], Any], Put], ...], before: List[Any],
                          of_functions: bool) -> None:
        """One after the other, as far as possible."""
        for (get, put), value in zip(settings, before):
            now = value_of(get)
            if now != value and value is not None:
                self.put_back(getattr(put, '__name__', 'a setting'), put, value)
                if of_functions:
                    self._settings.append((put, now))

    def put_back_modules(self, modules: Dict[str, Any], before: Dict[str, Any]) -> None:
        """What was imported already, a file may not take from others; nor may it block an import, or put in what is none."""
        if not all(map(is_, before.values(), map(modules.get, before))):
            modules.update({name: value for name, value in before.items() if modules.get(name) is not value})
        if len(modules) != len(before):
            for name in [name for name in list(modules) if name not in before]:
                value = modules[name]
                if value is None or (type(value) is ModuleType and value.__dict__.get('__spec__') is None):
                    del modules[name]

    def registers(self, is_own: Callable[[Any], bool], libraries: List[Tuple[Any, Any, Any]]) -> Callable[..., Any]:
        """An atexit.register for the time of the load. The daemon itself calls none of these functions."""
        def register(function: Any, *args: Any, **kwargs: Any) -> Any:
            """As atexit.register."""
            own = is_own(sys._getframe(1).f_globals)
            (self._exits if own else libraries).append((function, args, kwargs))
            return function

        return register


class Isolation:
    """What is put around the load of each file; one for all of them."""

    def __init__(self) -> None:
        self._exits_of_libraries: List[Tuple[Any, Any, Any]] = []
        self._are_pairs: Dict[int, bool] = {}
        self._descriptors: Optional[KeptDescriptors] = None
        os.register_at_fork(after_in_child=self._close_in_fork)

    def enter(self) -> None:
        """In the process of a function: what libraries registered with atexit is to be called at its end."""
        for function, args, kwargs in self._exits_of_libraries:
            atexit.register(function, *args, **kwargs)

    @contextmanager
    def keeping(self, is_own: Callable[[Any], bool]) -> Iterator[Kept]:
        """Keep what happens inside from the daemon; end a copy of it that has been forked.

        `is_own` says whether some globals are those of the file.
        """
        pid, kept, before = os.getpid(), Kept(), _Snapshot(self._are_pairs)
        asyncio._set_running_loop(None)
        self._descriptors = before.descriptors
        try:
            with _refusing(before.descriptors, pid):
                atexit.register = kept.registers(is_own, self._exits_of_libraries)
                guarded = [(vars(module), vars(module).copy()) for module in (os, atexit)]
                try:
                    yield kept
                finally:
                    _BUILTINS.update(before.builtins)  # the rest of this needs them
                    if os.getpid() != pid:
                        _end_copy()
                    before.note_lists()
                    for namespace, guards in guarded:
                        kept.put_back('os', kept.put_back_attributes, namespace, guards)
        finally:
            self._descriptors = None
            before.put_back(kept)

    def _close_in_fork(self) -> None:
        if self._descriptors:
            self._descriptors.close_in_fork()


_end_copy = partial(os._exit, 0)


class _Snapshot:
    """What is put back."""

    def __init__(self, are_pairs: Dict[int, bool]) -> None:
        self.builtins = _BUILTINS.copy()
        self.descriptors = KeptDescriptors(are_pairs)
        self._handlers = signal_handlers()
        self._threads = threading.enumerate()
        self._loop = asyncio._get_running_loop()
        self._of_functions = [value_of(get) for get, _ in OF_FUNCTIONS]
        self._of_the_process = [value_of(get) for get, _ in OF_THE_PROCESS]
        self._attributes = [(vars(module), vars(module).copy()) for module in _MODULES]
        self._environment = _environment().copy()
        self._lists = [(holder, name, getattr(holder, name), list(getattr(holder, name))) for holder, name in _LISTS]
        self._now: List[Any] = []
        self._modules, self._imported = sys.modules, sys.modules.copy()

    def note_lists(self) -> None:
        """What the names lead to now, before attributes are put back."""
        self._now = [getattr(holder, name, ()) for holder, name in _LISTS]

    def put_back(self, kept: Kept) -> None:
        """Everything; what differs is noted in `kept`."""
        asyncio._set_running_loop(self._loop)
        for namespace, before in self._attributes:
            kept.put_back('the attributes of a module', kept.put_back_attributes, namespace, before)
        for (holder, name, the_list, items), now in zip(self._lists, self._now):
            kept.put_back(f'{holder.__name__}.{name}', kept.put_back_list, holder, name, now, the_list, items)
        kept.put_back('sys.modules', kept.put_back_modules, self._modules, self._imported)
        kept.put_back('os.environ', _put_back_environment, self._environment)
        kept.put_back_settings(OF_FUNCTIONS, self._of_functions, of_functions=True)
        kept.put_back_settings(OF_THE_PROCESS, self._of_the_process, of_functions=False)
        for (number, handler), (_, now) in zip(self._handlers, signal_handlers()):
            if handler is not None and now is not handler:
                signal.signal(number, handler)
        lost = self.descriptors.put_back()
        if lost:
            kept.faults.append('it closed descriptors of the daemon (' + ', '.join(map(str, sorted(lost))) + '), or put '
                               'others in their place; allowed: to close what it has opened itself')
        kept.threads = [thread.name for thread in threading.enumerate() if thread not in self._threads]


@contextmanager
def _refusing(descriptors: KeptDescriptors, pid: int) -> Iterator[None]:
    """Refuse calls that would end the daemon, or change it for good. A process that the file forks may do as it likes."""
    thread, is_loading = threading.get_ident(), [True]

    def refused(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """In the place of the function; a library may keep it for later."""
        def guard(*args: Any, **kwargs: Any) -> Any:
            """As the function."""
            if is_loading and os.getpid() == pid and threading.get_ident() == thread:
                if name in _REFUSED:
                    raise SpecError(f'os.{name} was called while the file was being loaded: that would be the daemon\'s own '
                                    'doing; allowed: in a function that is an action')
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
    """What os.environ keeps its variables in."""
    return os.environ._data  # type: ignore[attr-defined,no-any-return]


def _put_back_environment(before: Dict[Any, Any]) -> None:
    data = _environment()
    if data != before:
        for name in data.keys() - before.keys():
            os.unsetenv(name)
        for name, value in before.items():
            os.putenv(name, value)
        data.clear()
        data.update(before)


ISOLATION = Isolation()
