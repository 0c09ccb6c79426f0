"""Process 1 of a container: does for the daemon what init(1) does for a machine.

A process whose parent has ended becomes a child of process 1, which has to reap it:
otherwise processes that actions leave in the background would remain zombies. The
daemon reaps only its own children, so it runs as a child of this process.
"""

from __future__ import annotations

import os
import signal

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def leave_process_1() -> None:
    """If this is process 1, return in a child of it only. Process 1 never returns.

    It forwards signals to the daemon, reaps every orphan, and exits when the daemon
    does: with its exit code, or with 128 plus the number of the signal that killed it.
    """
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_FORWARDED, signal.SIGCHLD))
    daemon = os.fork()
    if daemon == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait((*_FORWARDED, signal.SIGCHLD))
        if number != signal.SIGCHLD:
            os.kill(daemon, number)
            continue
        pid, status = os.waitpid(-1, os.WNOHANG)
        while pid:  # one signal may stand for many children; the daemon is one until the loop exits
            if pid == daemon:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
            pid, status = os.waitpid(-1, os.WNOHANG)
