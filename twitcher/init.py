"""The first process of a container: what init(1) does for a machine, for the daemon that runs beside it.

The kernel gives every process whose parent has ended to process 1, which has to reap it: otherwise what actions leave in
the background stays as zombies. The daemon itself reaps its own children only, so it runs as a child of this process.
"""

from __future__ import annotations

import os
import signal

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def leave_process_1() -> None:
    """If this is process 1, go on in a child of it. Process 1 itself never returns from here.

    It passes the signals that mean something to the daemon on, reaps every orphan, and exits when the daemon does, with
    the same exit code, or 128 and the number of the signal that killed it.
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
        while pid:  # one signal may stand for many children; the daemon is one of them, so there is always one left
            if pid == daemon:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
            pid, status = os.waitpid(-1, os.WNOHANG)
