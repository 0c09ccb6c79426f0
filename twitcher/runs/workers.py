"""Makes calls that may block, for example an exec, in threads.

Calls begin in order. One thread makes them all as long as they are quick; another one
is started when a call waits and none finishes, and two are kept. A thread that hangs
ends with the process. The loop waits only in `has_room`, and not for long.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from queue import Empty, SimpleQueue
from typing import Any, Callable, Tuple

STALL = 0.01
"""Seconds without a finished call after which waiting calls get another thread."""
BACKPRESSURE = 0.1
"""Seconds that `has_room` waits in a burst until it concludes that the calls hang."""
_KEPT = 2

_Job = Tuple[Callable[[], Any], Callable[[Any], None], Callable[[Any], None]]
_END: _Job = (lambda: None, lambda _: None, lambda _: None)
"""Ends a thread."""


class Workers:
    """A pool of threads. At most `limit` calls are in progress or wait for a thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()  # an item for each call that may be added
        for _ in range(limit):
            self._room.put(None)
        self._threads = 0
        self._unfinished = 0
        self._has_progressed = False
        self._do_hang = False
        self._has_timer = False

    @property
    def is_idle(self) -> bool:
        """Whether all calls have been made, and their results passed on."""
        return not self._unfinished

    def has_room(self) -> bool:
        """Whether another call can be added.

        In a burst this waits for up to BACKPRESSURE seconds: if calls are quick, there
        soon is room.
        """
        if not self._room.empty():
            return True
        if self._do_hang:
            return False
        try:
            self._room.put(self._room.get(timeout=BACKPRESSURE))
        except Empty:
            self._do_hang = True
        return not self._do_hang

    def call(self, function: Callable[[], Any], settled: Callable[[Any], None], done: Callable[[Any], None]) -> None:
        """Call the function in a thread, then `settled(result)` in the same thread,
        then `done(result)` on the loop, which may be busy for a long time.

        If the function raises, the result is the exception. `settled` must not raise.
        There must be room. Raises RuntimeError if there is no thread and none can be
        started.
        """
        if not self._threads:
            self._add_thread()
        self._room.get_nowait()
        self._jobs.put((function, settled, done))
        self._unfinished += 1
        if self._unfinished > self._threads and not self._has_timer:
            self._start_timer()

    def drop(self) -> None:
        """Drop the calls that have not begun."""
        with contextlib.suppress(Empty):
            while True:
                self._jobs.get_nowait()

    def _start_timer(self) -> None:
        self._has_timer, self._has_progressed = True, False
        self._loop.call_later(STALL, self._check_for_stall)

    def _check_for_stall(self) -> None:
        self._has_timer = False
        if self._unfinished > self._threads:
            if not self._has_progressed and self._threads < self._limit:
                with contextlib.suppress(RuntimeError):  # out of memory or processes: try at the next check
                    self._add_thread()
            self._start_timer()

    def _add_thread(self) -> None:
        threading.Thread(target=self._work, name='worker', daemon=True).start()
        self._threads += 1

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            if job is _END:
                return
            function, settled, done = job
            try:
                result = function()
            except BaseException as error:  # `done` handles it
                result = error
            settled(result)
            self._room.put(None)
            try:
                self._loop.call_soon_threadsafe(self._finished, done, result)
            except RuntimeError:  # the loop is closed
                return
            del job, function, settled, done, result

    def _finished(self, done: Callable[[Any], None], result: Any) -> None:
        self._unfinished -= 1
        self._has_progressed = True
        if self._unfinished < self._limit // 2:
            self._do_hang = False
        if self._threads > max(_KEPT, self._unfinished):
            self._threads -= 1
            self._jobs.put(_END)
        done(result)
