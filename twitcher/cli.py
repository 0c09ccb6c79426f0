"""The command line of twitcher: arguments, checks, logging, detaching, exit codes.

Guarantees: everything that can be checked is checked before the process detaches, while
the user still sees its stderr.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import contextmanager
from types import FrameType
from typing import Iterator, List, NoReturn, Optional

from twitcher import __version__
from twitcher.daemon import HANDLED_SIGNALS, Settings, run_daemon
from twitcher.daemonize import detach, reset_inherited_state
from twitcher.errors import TwitcherError, UsageError
from twitcher.init import leave_process_1
from twitcher.lock import LOCK_TIMEOUT, StateLock
from twitcher.log import get_logger, report_to_stderr, set_levels, start_logging, stop_logging
from twitcher.log_target import SYSLOG_SOCKET, LogTarget, check_file
from twitcher.options import Parser, add_ensemble_options, ensemble_of, number
from twitcher.pidfile import PidFile
from twitcher.zookeeper.ensemble import Ensemble

log = get_logger(__name__)

DEFAULT_CONFIG_PATH = '/etc/twitcher'
DEFAULT_MAX_RUNNING = 256
DEFAULT_STATE_DIR = '/var/lib/twitcher'
_STOPPING = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Optional[List[str]] = None) -> NoReturn:
    """Run the daemon, and exit: 0 after SIGTERM or SIGINT, 1 if it cannot run, 2 if the
    command line is wrong."""
    try:
        options = _checked(new_parser().parse(arguments))
        code = _check(options) if options.check_options else _run(options)
    except TwitcherError as error:
        report_to_stderr('twitcher', str(error))
        code = 2 if isinstance(error, UsageError) else 1
    stop_logging()
    os._exit(code)  # joins no threads: kazoo's may be connecting, and .twc files may have started others


def new_parser() -> Parser:
    """A parser with all options."""
    parser = Parser(prog='twitcher', description='Run scripts when a znode in ZooKeeper changes.',
                    epilog='Long options may also be spelled with hyphens. SIGHUP rereads the configs, SIGTERM stops.')
    add = parser.add_argument
    add_ensemble_options(parser)
    add('--config_path', metavar='DIR', default=DEFAULT_CONFIG_PATH,
        help='the directory of the .twc files, which may be in subdirectories (default: %(default)s)')
    add('--max_running', metavar='N', type=number(int, 1, 1e6, 'a whole number'), default=DEFAULT_MAX_RUNNING,
        help='how many runs in PARALLEL mode may be in progress at once; others wait (default: %(default)s)')
    add('--daemonize', action='store_true', help='detach from the terminal and run in the background')
    add('--pidfile', metavar='FILE', help='write the pid to FILE, and lock it: only one daemon can hold it')
    add('--state_dir', metavar='DIR', default=DEFAULT_STATE_DIR,
        help='where to keep the state for the next daemon (default: %(default)s)')
    place = parser.add_mutually_exclusive_group()
    place.add_argument('--logfile', metavar='FILE', help='log to FILE instead of syslog; it is reopened after a rotation')
    place.add_argument('--log_to_stdout', action='store_true', help='log to stdout instead of syslog')
    place.add_argument('--syslog_socket', metavar='SOCKET', default=SYSLOG_SOCKET,
                       help='the socket of syslog; facility daemon (default: %(default)s)')
    add('-v', '--verbose', action='store_true', help='log in detail what Twitcher does')
    add('-d', '--debug', action='store_true', help='also log what its libraries do')
    add('--devel', action='store_true',
        help='log in detail to stdout and, without --zkservers, use a private, throw-away ZooKeeper')
    add('--check_options', action='store_true', help='check the command line, report what is wrong with it, and exit')
    add('--version', action='version', version=f'twitcher {__version__}')
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """The options, with absolute paths. Raises UsageError."""
    is_private = options.devel and options.zkservers is None
    options.ensemble = None if is_private else ensemble_of(options)
    program = sys.executable if sys.argv[0].endswith('.py') else sys.argv[0]  # python -m twitcher
    options.twitcherctl = os.path.join(os.path.dirname(program), 'twitcherctl')
    for name in ('config_path', 'pidfile', 'logfile', 'state_dir', 'syslog_socket', 'twitcherctl'):
        path = getattr(options, name)
        if path == '':
            raise UsageError(f'argument --{name}: it is empty; allowed: a path')
        try:
            setattr(options, name, path and os.path.abspath(path))
        except OSError:
            raise UsageError(f'argument --{name}: {path!r} is relative to a directory that is gone; allowed: an absolute '
                             'path') from None
    if options.daemonize and (options.log_to_stdout or options.devel):
        raise UsageError(f'--daemonize does not go with {"--devel" if options.devel else "--log_to_stdout"}: a process in '
                         'the background has no stdout')
    try:
        os.scandir(options.config_path).close()
    except OSError as error:
        raise UsageError(f'--config_path {options.config_path}: {error.strerror}; allowed: a directory') from None
    return options


def _check(options: argparse.Namespace) -> int:
    """Check the rest of the command line, for --check_options. Raises UsageError."""
    _log_target(options)
    return 0


def _run(options: argparse.Namespace) -> int:
    server = None
    pidfile = PidFile(options.pidfile) if options.pidfile else None
    is_throw_away_state = not options.ensemble and options.state_dir == DEFAULT_STATE_DIR
    lock = None if is_throw_away_state else StateLock(options.state_dir, options.config_path)
    try:
        leave_process_1()
        reset_inherited_state()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)  # until the daemon handles them
        target = _log_target(options)
        if target.kind == 'syslog' and not options.daemonize and sys.stderr.isatty():
            _report_where_it_logs(options)
        if pidfile:
            pidfile.lock()
        if lock:
            _acquire(lock)
        kept = ([pidfile.descriptor] if pidfile else []) + (lock.descriptors if lock else [])
        ready = detach(kept) if options.daemonize else None
        start_logging(target, os.getpid())
        set_levels(options.verbose or options.devel, options.debug)
        if pidfile:
            pidfile.write()
        if lock:
            lock.write_pid()
            lock.release_in_forks()
        if ready:
            ready()
        if not options.ensemble:
            from twitcher.zookeeper.throwaway import ThrowAwayServer  # a megabyte that a daemon in production does not need
            server = ThrowAwayServer()
            with _stoppable():
                server.start()
            options.ensemble = Ensemble.parse(server.hosts)
            if is_throw_away_state:  # the state is about znodes that will be gone
                options.state_dir = server.directory
            _log_how_to_poke(options)
        return run_daemon(Settings(options.ensemble, options.config_path, target, options.max_running, options.state_dir,
                                   lock))
    except _StoppedEarly:
        return 0
    finally:
        if pidfile:
            pidfile.remove()
        if server:
            server.remove()


def _report_where_it_logs(options: argparse.Namespace) -> None:
    report_to_stderr('twitcher', f'running on the files in {options.config_path} and logging to syslog; '
                                 '--log_to_stdout shows the log here')


def _log_how_to_poke(options: argparse.Namespace) -> None:
    log.info('a throw-away ZooKeeper serves at %s; poke a znode from another terminal, for instance: '
             '%s poke --zkservers %s /examples/hello world', options.ensemble, options.twitcherctl, options.ensemble)


def _acquire(lock: StateLock) -> None:
    """Acquire the lock and write our pid. Raises LockedError."""
    try:
        lock.acquire(LOCK_TIMEOUT)
        lock.write_pid()
    except OSError:
        return  # the daemon logs it, runs without a state, and tries again


class _StoppedEarly(BaseException):
    """SIGTERM or SIGINT arrived before there was a loop to handle it."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGINT interrupt the block, which may take seconds, with
    _StoppedEarly."""
    for signum in _STOPPING:
        signal.signal(signum, _stop_early)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)


def _stop_early(signum: int, frame: Optional[FrameType]) -> NoReturn:
    raise _StoppedEarly


def _log_target(options: argparse.Namespace) -> LogTarget:
    """Where to log. Checks that a log file can be opened. Raises UsageError."""
    if options.logfile:
        target = LogTarget('file', options.logfile)
        try:
            check_file(options.logfile)
        except OSError as error:
            raise UsageError(f'--logfile {options.logfile}: {error.strerror}') from None
        return target
    if options.devel or options.log_to_stdout:
        return LogTarget('stdout')
    if os.path.exists(options.syslog_socket):
        return LogTarget('syslog', options.syslog_socket)
    if options.daemonize:
        report_to_stderr('twitcher', f'{options.syslog_socket} does not exist: nothing is logged until it does')
        return LogTarget('syslog', options.syslog_socket)
    report_to_stderr('twitcher', f'{options.syslog_socket} does not exist: logging to stderr')
    return LogTarget('stderr')
