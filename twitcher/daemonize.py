"""Turns the process into a daemon: resets what it has inherited, and detaches it. The
only module that knows python-daemon."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Callable, List

from twitcher.errors import TwitcherError
from twitcher.log import report_to_stderr

UMASK = 0o022
"""The daemon's umask, and that of every run."""


def reset_inherited_state() -> None:
    """Reset what the process has inherited and actions would inherit in turn: closed
    standard streams, ignored and blocked signals, the directory, the umask; and the
    locale that Python has put into the environment."""
    _open_standard_streams()
    _forget_coerced_locale()
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir('/')
    os.umask(UMASK)
    # A fork for a Python action is safe: it uses no lock that another thread may hold.
    warnings.filterwarnings('ignore', category=DeprecationWarning, message='.*fork')


def _open_standard_streams() -> None:
    """Open /dev/null for each standard stream that is closed. Otherwise the next file
    that is opened would become stdin, stdout or stderr."""
    for descriptor, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:  # Python found it closed
            stream = open(descriptor, 'r' if descriptor == 0 else 'w', closefd=False)  # noqa: SIM115  # open to the end
            setattr(sys, name, stream)


def _forget_coerced_locale() -> None:
    """Remove LC_CTYPE from the environment if Python has set it, as it does in the C
    locale (PEP 538)."""
    try:
        with open('/proc/self/environ', 'rb') as file:
            given = file.read().split(b'\0')
    except OSError:
        return
    if not any(variable.startswith(b'LC_CTYPE=') for variable in given):
        os.environ.pop('LC_CTYPE', None)


def detach(keep: List[int]) -> Callable[[], None]:
    """Detach, keeping the descriptors in `keep` open. Returns a function that the
    daemon calls when it is ready.

    The original process waits for that call and exits 0, or 1 if the daemon ends
    before.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(writer)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.read(reader, 1):
            os._exit(0)
        report_to_stderr('twitcher', 'the daemon has ended before it was ready')
        os._exit(1)
    os.close(reader)
    # Set explicitly what python-daemon would guess, or set so that actions inherit it:
    # a core limit of 0, and ignored terminal signals.
    import daemon  # only for --daemonize
    try:
        daemon.DaemonContext(detach_process=True, umask=UMASK, working_directory='/', prevent_core=False, signal_map={},
                             files_preserve=[*keep, writer]).open()
    except daemon.daemon.DaemonError as error:
        raise TwitcherError(f'cannot detach: {error}') from error

    def ready() -> None:
        """Let the original process exit 0."""
        os.write(writer, b'.')
        os.close(writer)

    return ready
