"""The process itself: what it must not have inherited, and how it becomes a daemon. The only module that knows
python-daemon."""

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
    """Undo what the caller may have left us with and actions would inherit: closed descriptors, ignored and blocked signals, a
    directory, a umask; and a locale that nobody has set."""
    _open_standard_streams()
    _forget_coerced_locale()
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir('/')
    os.umask(UMASK)
    # A fork for a Python action is safe: it uses nothing that another thread may have locked.
    warnings.filterwarnings('ignore', category=DeprecationWarning, message='.*fork')


def _open_standard_streams() -> None:
    """Open /dev/null in the place of a standard stream that is closed.

    Otherwise the next file that is opened would become stdin, stdout or stderr.
    """
    for descriptor, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:  # Python found it closed
            stream = open(descriptor, 'r' if descriptor == 0 else 'w', closefd=False)  # noqa: SIM115  # open to the end
            setattr(sys, name, stream)


def _forget_coerced_locale() -> None:
    """Remove LC_CTYPE from the environment if Python has put it there, as it does in the C locale (PEP 538)."""
    try:
        with open('/proc/self/environ', 'rb') as file:
            given = file.read().split(b'\0')
    except OSError:
        return
    if not any(variable.startswith(b'LC_CTYPE=') for variable in given):
        os.environ.pop('LC_CTYPE', None)


def detach(keep: List[int]) -> Callable[[], None]:
    """Become a daemon, with the descriptors in `keep`. Returns what is to be called when it is ready.

    The process that called waits for that, and exits 0, or 1 if the daemon has ended before.
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
    # Said explicitly what python-daemon would guess or choose otherwise: a core limit of 0 and ignored terminal signals
    # would be inherited by actions.
    import daemon  # not everybody needs it
    try:
        daemon.DaemonContext(detach_process=True, umask=UMASK, working_directory='/', prevent_core=False, signal_map={},
                             files_preserve=[*keep, writer]).open()
    except daemon.daemon.DaemonError as error:
        raise TwitcherError(f'cannot detach: {error}') from error

    def ready() -> None:
        """Let the process that called exit 0."""
        os.write(writer, b'.')
        os.close(writer)

    return ready
