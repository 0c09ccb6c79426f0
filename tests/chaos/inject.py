"""What each fault does to the world."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
from typing import Callable, List, Optional

from tests.chaos.faults import ALL, Fault
from tests.chaos.proxy import ErringProxy
from tests.chaos.world import OPEN, UNREADABLE, World
from tests.chaos.writer import Writer
from tests.support.processes import process_status

_BURST = 250
"""Writes, each of which may cause a run: more than a socket buffer has room for
messages about."""
_GUARDED = 'guarded'


class Injector:
    """Lets faults begin and end. For each there is a method named after it; one without
    an end has none."""

    def __init__(self, world: World, writer: Writer) -> None:
        self._world = world
        self._writer = writer
        self._competitor: Optional[subprocess.Popen[bytes]] = None
        self._stuttering: Optional[threading.Thread] = None
        self._is_stuttering = threading.Event()

    def begin(self, fault: Fault) -> None:
        """Let it happen."""
        self._world.journal.note('fault', what=str(fault), fault=fault.kind)
        self._do(fault, 'begin')

    def end(self, fault: Fault) -> None:
        """Let it be over."""
        self._world.journal.note('healed', what=str(fault), fault=fault.kind)
        self._do(fault, 'end')

    def close(self) -> None:
        """End what the faults have started."""
        self._no_competitor()
        self._no_stutter()

    def _do(self, fault: Fault, edge: str) -> None:
        method: Optional[Callable[[Fault], None]] = getattr(self, f'_{edge}_{fault.kind.replace(" ", "_").lower()}', None)
        if method:
            method(fault)

    # Network and servers

    def _proxies(self, fault: Fault) -> List[ErringProxy]:
        return self._world.proxies if fault.target == ALL else [self._world.proxies[fault.target]]

    def _begin_cut(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.cut()

    def _begin_refuse(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.refuse()

    def _begin_swallow(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.swallow()

    def _begin_delay(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.delay = fault.strength * 0.3

    def _end_delay(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.delay = 0

    def _end_refuse(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.heal()

    _end_swallow = _end_refuse

    def _begin_error_answers(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.error_rate = 0.1 + fault.strength * 0.9

    def _end_error_answers(self, fault: Fault) -> None:
        for proxy in self._proxies(fault):
            proxy.error_rate = 0

    def _begin_server_killed(self, fault: Fault) -> None:
        self._world.quorum.members[fault.target].stop()

    def _end_server_killed(self, fault: Fault) -> None:
        self._world.quorum.members[fault.target].start()

    def _begin_server_stopped(self, fault: Fault) -> None:
        self._world.quorum.members[fault.target].signal(signal.SIGSTOP)

    def _end_server_stopped(self, fault: Fault) -> None:
        self._world.quorum.members[fault.target].signal(signal.SIGCONT)

    def _begin_acl_closed(self, fault: Fault) -> None:
        self._world.closed.add(_GUARDED)
        self._writer.set_acl(_GUARDED, UNREADABLE)
        self._writer.burst(_GUARDED, 2)

    def _end_acl_closed(self, fault: Fault) -> None:
        if self._writer.set_acl(_GUARDED, OPEN):
            self._world.closed.discard(_GUARDED)
        self._writer.burst(_GUARDED, 4)

    # The daemon and its processor

    def _begin_daemon_killed(self, fault: Fault) -> None:
        self._world.kill_daemon()

    def _begin_daemon_ended(self, fault: Fault) -> None:
        self._world.stop_daemon()

    def _end_daemon_killed(self, fault: Fault) -> None:
        self._world.start_daemon()

    _end_daemon_ended = _end_daemon_killed

    def _begin_daemon_stopped(self, fault: Fault) -> None:
        self._world.daemon.signal(signal.SIGSTOP)

    def _end_daemon_stopped(self, fault: Fault) -> None:
        self._world.daemon.signal(signal.SIGCONT)

    def _begin_daemon_stutters(self, fault: Fault) -> None:
        self._is_stuttering.set()
        self._stuttering = threading.Thread(target=self._stutter, args=(random.Random(fault.strength),), daemon=True)
        self._stuttering.start()

    def _end_daemon_stutters(self, fault: Fault) -> None:
        self._no_stutter()

    def _stutter(self, random_numbers: random.Random) -> None:
        pause = threading.Event()
        while self._is_stuttering.is_set():
            self._world.daemon.signal(signal.SIGSTOP)
            pause.wait(random_numbers.uniform(0.01, 0.3))
            self._world.daemon.signal(signal.SIGCONT)
            pause.wait(random_numbers.choice([0.0005, 0.005, 0.1]))

    def _no_stutter(self) -> None:
        self._is_stuttering.clear()
        if self._stuttering:
            self._stuttering.join()

    def _begin_processor_busy(self, fault: Fault) -> None:
        """The daemon shares one processor with a busy process of higher priority."""
        self._competitor = subprocess.Popen(['/bin/sh', '-c', 'while :; do :; done'])
        processor = {min(os.sched_getaffinity(0))}
        os.sched_setaffinity(self._competitor.pid, processor)
        for thread in self._threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, processor)
                os.setpriority(os.PRIO_PROCESS, thread, round(fault.strength * 12))

    def _end_processor_busy(self, fault: Fault) -> None:
        self._no_competitor()
        for thread in self._threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, os.sched_getaffinity(0))
                os.setpriority(os.PRIO_PROCESS, thread, 0)

    def _no_competitor(self) -> None:
        if self._competitor:
            self._competitor.kill()
            self._competitor.wait()

    def _threads(self) -> List[int]:
        with contextlib.suppress(FileNotFoundError):
            return [int(name) for name in os.listdir(f'/proc/{self._world.daemon.pid}/task')]
        return []

    # Its configs

    def _begin_sighup(self, fault: Fault) -> None:
        with contextlib.suppress(FileNotFoundError, KeyError):
            # Before Python has set up the daemon's handlers, the signal means what it means to every process.
            if int(process_status(self._world.daemon.pid)['SigCgt'], 16) & 1 << signal.SIGHUP - 1:
                self._world.daemon.signal(signal.SIGHUP)

    def _begin_config_rewritten(self, fault: Fault) -> None:
        self._world.configs.rewrite(fault.strength)

    def _begin_config_edited(self, fault: Fault) -> None:
        self._world.configs.edit(fault.strength)

    def _begin_config_overwritten(self, fault: Fault) -> None:
        self._world.configs.overwrite(fault.strength)

    def _begin_config_edited_in_place(self, fault: Fault) -> None:
        self._world.configs.edit_in_place(fault.strength)

    def _begin_config_renamed(self, fault: Fault) -> None:
        self._world.configs.rename(fault.strength)

    def _begin_watch_put_above(self, fault: Fault) -> None:
        self._world.configs.top(fault.strength)

    # Its disk, its log, its actions

    def _begin_disk_full(self, fault: Fault) -> None:
        self._world.journal.note('full')
        with contextlib.suppress(OSError), (self._world.directory / 'state' / 'filling').open('wb', buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def _end_disk_full(self, fault: Fault) -> None:
        (self._world.directory / 'state' / 'filling').unlink()
        self._world.journal.note('emptied')

    def _begin_syslog_away(self, fault: Fault) -> None:
        assert self._world.syslog
        self._world.syslog.go()

    def _end_syslog_away(self, fault: Fault) -> None:
        assert self._world.syslog
        self._world.syslog.come()

    def _begin_syslog_stalled(self, fault: Fault) -> None:
        assert self._world.syslog
        self._world.syslog.stall()
        self._writer.burst('p-noload', _BURST)

    def _end_syslog_stalled(self, fault: Fault) -> None:
        assert self._world.syslog
        self._world.syslog.go_on()

    def _begin_chatty_action(self, fault: Fault) -> None:
        self._writer.burst('chatty', 1)
        self._writer.burst('p-noload', _BURST)

    def _begin_action_reads_its_pipe(self, fault: Fault) -> None:
        self._writer.burst('thief', 1)
