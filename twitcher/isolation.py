"""Keeps what a .twc file does to the interpreter from the daemon and from other files.

What the file changed is put back when it has been loaded. What only its own functions can miss, such as sys.path, is in
force again in their processes. What cannot be put back is refused while the file is loaded, or reported as its fault.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import gc
import locale
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from operator import is_
from types import ModuleType
from typing import Any, Callable, Dict, Iterator, List, Tuple

from twitcher.deadline import signal_handlers
from twitcher.descriptors import KeptDescriptors
from twitcher.errors import SpecError

_MODULES = (builtins, sys, os, time, signal, threading, socket, select, subprocess, logging, warnings, gc, atexit)
"""Modules whose attributes are put back: those without which nothing works."""
_LISTS: Tuple[Tuple[Any, str], ...] = ((sys, 'path'), (sys, 'meta_path'), (sys, 'path_hooks'), (warnings, 'filters'))
_LIMITS = range(resource.RLIM_NLIMITS) if hasattr(resource, 'RLIM_NLIMITS') else range(16)
_REFUSED = ('_exit', 'abort', 'execv', 'execve', 'setuid', 'setgid', 'setreuid', 'setregid', 'setresuid', 'setresgid', 'chroot')
_CLOSING = ('close', 'closerange', 'dup2')
_MISSING = object()

_Put = Callable[[Any], Any]


def _set_umask(value: int) -> int:
    """The umask that was in force."""
    return os.umask(value)


def _umask() -> int:
    value = os.umask(0o077)
    os.umask(value)
    return value


def _set_ids(value: Tuple[Any, Any, Any]) -> None:
    users, groups, further = value
    os.seteuid(users[0])  # only root may set the others
    os.setgroups(further)
    os.setresgid(*groups)
    os.setresuid(*users)


def _set_limits(value: List[Tuple[int, int]]) -> None:
    for number, limit in zip(_LIMITS, value):
        if resource.getrlimit(number) != limit:
            resource.setrlimit(number, limit)


def _set_gc(value: Tuple[bool, Tuple[int, int, int]]) -> None:
    (gc.enable if value[0] else gc.disable)()
    gc.set_threshold(*value[1])


_OF_FUNCTIONS: Tuple[Tuple[Callable[[], Any], _Put], ...] = (
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (sys.getswitchinterval, sys.setswitchinterval),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value)),
    (lambda: (gc.isenabled(), gc.get_threshold()), _set_gc),
)
"""Settings that are in force again in the file's functions."""
_OF_THE_PROCESS: Tuple[Tuple[Callable[[], Any], _Put], ...] = (
    (lambda: (os.getresuid(), os.getresgid(), os.getgroups()), _set_ids),
    (os.getcwd, os.chdir),
    (_umask, _set_umask),
    (lambda: [resource.getrlimit(number) for number in _LIMITS], _set_limits),
    (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, ()), lambda value: signal.pthread_sigmask(signal.SIG_SETMASK, value)),
    (lambda: signal.getitimer(signal.ITIMER_VIRTUAL), lambda value: signal.setitimer(signal.ITIMER_VIRTUAL, *value)),
    (lambda: signal.getitimer(signal.ITIMER_PROF), lambda value: signal.setitimer(signal.ITIMER_PROF, *value)),
    (sys.getprofile, sys.setprofile),
)
"""Settings of which an action finds what the manual says."""


class Kept:
    """What one file did to the interpreter."""

    def __init__(self) -> None:
        self.faults: List[str] = []
        self.threads: List[str] = []
        self._settings: List[Tuple[_Put, Any]] = []
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

    def put_back_settings(self, settings: Tuple[Tuple[Callable[[], Any], _Put], ...], before: List[Any],
                          of_functions: bool) -> None:
        """One after the other, as far as possible."""
        for (get, put), value in zip(settings, before):
            now = _got(get)
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

    def is_plain(self) -> bool:
        """Whether it did nothing that its functions would miss."""
        return not (self._settings or self._attributes or self._exits)


class Isolation:
    """What is put around the load of each file; one for all of them."""

    def __init__(self) -> None:
        self._exits_of_libraries: List[Tuple[Any, Any, Any]] = []
        self._are_tcp: Dict[int, bool] = {}

    def enter(self) -> None:
        """In the process of a function: what libraries registered with atexit is to be called at its end."""
        for function, args, kwargs in self._exits_of_libraries:
            atexit.register(function, *args, **kwargs)

    @contextmanager
    def keeping(self, is_own: Callable[[Any], bool]) -> Iterator[Kept]:
        """Keep what happens inside from the daemon; end a copy of it that has been forked.

        `is_own` says whether some globals are those of the file.
        """
        pid = os.getpid()
        kept = Kept()
        descriptors = KeptDescriptors(self._are_tcp)
        handlers = signal_handlers()
        threads = threading.enumerate()
        loop = asyncio._get_running_loop()
        settings = [_got(get) for get, _ in _OF_FUNCTIONS], [_got(get) for get, _ in _OF_THE_PROCESS]
        attributes = [(vars(module), vars(module).copy()) for module in _MODULES]
        environment = _environment().copy()
        lists = [(holder, name, getattr(holder, name), list(getattr(holder, name))) for holder, name in _LISTS]
        modules, imported = sys.modules, sys.modules.copy()
        asyncio._set_running_loop(None)
        with _refusing(descriptors, pid):
            atexit.register = kept.registers(is_own, self._exits_of_libraries)
            guarded = vars(os).copy(), vars(atexit).copy()
            try:
                yield kept
            finally:
                if os.getpid() != pid:
                    os._exit(0)
                asyncio._set_running_loop(loop)
                found = [getattr(holder, name, None) for holder, name in _LISTS]
                for namespace, guards in ((vars(os), guarded[0]), (vars(atexit), guarded[1])):
                    kept.put_back_attributes(namespace, guards)
        for namespace, before in attributes:
            kept.put_back('the attributes of a module', kept.put_back_attributes, namespace, before)
        for (holder, name, the_list, items), now in zip(lists, found):
            kept.put_back(f'{holder.__name__}.{name}', kept.put_back_list, holder, name, now, the_list, items)
        kept.put_back('sys.modules', kept.put_back_modules, modules, imported)
        kept.put_back('os.environ', _put_back_environment, environment)
        kept.put_back_settings(_OF_FUNCTIONS, settings[0], of_functions=True)
        kept.put_back_settings(_OF_THE_PROCESS, settings[1], of_functions=False)
        for (number, handler), (_, now) in zip(handlers, signal_handlers()):
            if handler is not None and now is not handler:
                signal.signal(number, handler)
        lost = descriptors.put_back()
        if lost:
            kept.faults.append('it closed descriptors of the daemon (' + ', '.join(map(str, sorted(lost))) + '), or put '
                               'others in their place; allowed: to close what it has opened itself')
        kept.threads = [thread.name for thread in threading.enumerate() if thread not in threads]


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


def _got(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except OSError:  # a working directory that is gone
        return None


ISOLATION = Isolation()
