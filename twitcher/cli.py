"""The command line of twitcher: arguments, checks, logging, detaching, exit codes.

Whatever can be found wrong is found before the process detaches, while somebody still reads stderr.
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
from twitcher.options import DEFAULT_HOSTS, Parser, number
from twitcher.pidfile import PidFile
from twitcher.zookeeper.client import checked_hosts

log = get_logger(__name__)

DEFAULT_CONFIG_PATH = '/etc/twitcher'
DEFAULT_MAX_RUNNING = 256
DEFAULT_STATE_DIR = '/var/lib/twitcher'
_STOPPING = (signal.SIGTERM, signal.SIGINT)


def main(arguments: Optional[List[str]] = None) -> NoReturn:
    """Run the daemon, and exit: 0 when it was told to stop, 1 when it cannot run, 2 for a bad command line."""
    try:
        options = _checked(new_parser().parse(arguments))
        code = _check(options) if options.check_options else _run(options)
    except TwitcherError as error:
        report_to_stderr('twitcher', str(error))
        code = 2 if isinstance(error, UsageError) else 1
    stop_logging()
    os._exit(code)  # a stop must not wait for a thread: of kazoo's, which may be connecting, or of a .twc file


def new_parser() -> Parser:
    """What the command line may hold."""
    parser = Parser(prog='twitcher', description='Run scripts when a znode in ZooKeeper changes.',
                    epilog='Long options may be spelled with hyphens, too. SIGHUP rereads the configs, SIGTERM stops.')
    add = parser.add_argument
    add('--zkservers', metavar='HOST:PORT,...[/CHROOT]', help=f'the ZooKeeper ensemble (default: {DEFAULT_HOSTS})')
    add('--config_path', metavar='DIR', default=DEFAULT_CONFIG_PATH,
        help='where the .twc files are, also in directories below (default: %(default)s)')
    add('--max_running', metavar='N', type=number(int, 1, 1e6, 'a whole number'), default=DEFAULT_MAX_RUNNING,
        help='runs in PARALLEL mode that may be in progress at once; further ones wait (default: %(default)s)')
    add('--daemonize', action='store_true', help='detach from the terminal and go on in the background')
    add('--pidfile', metavar='FILE', help='write the pid to FILE, and lock it: one daemon at a time')
    add('--state_dir', metavar='DIR', default=DEFAULT_STATE_DIR,
        help='where to remember what the next daemon has to know (default: %(default)s)')
    place = parser.add_mutually_exclusive_group()
    place.add_argument('--logfile', metavar='FILE', help='log to FILE instead of syslog; opened again after a rotation')
    place.add_argument('--log_to_stdout', action='store_true', help='log to stdout instead of syslog')
    place.add_argument('--syslog_socket', metavar='SOCKET', default=SYSLOG_SOCKET,
                       help='where syslog listens; facility daemon (default: %(default)s)')
    add('-v', '--verbose', action='store_true', help='log what Twitcher does in detail')
    add('-d', '--debug', action='store_true', help='log also what its libraries do')
    add('--devel', action='store_true',
        help='log in detail to stdout and, without --zkservers, use a private throw-away ZooKeeper')
    add('--check_options', action='store_true', help='say what is wrong with the command line, if anything is, and exit')
    add('--version', action='version', version=f'twitcher {__version__}')
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """The options, with absolute paths. Raises UsageError."""
    if options.zkservers is not None or not options.devel:
        options.zkservers = checked_hosts(DEFAULT_HOSTS if options.zkservers is None else options.zkservers)
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
    """Try out what `_checked` has not. Raises UsageError."""
    _log_target(options)
    return 0


def _run(options: argparse.Namespace) -> int:
    server = None
    pidfile = PidFile(options.pidfile) if options.pidfile else None
    is_state_thrown_away = not options.zkservers and options.state_dir == DEFAULT_STATE_DIR
    lock = None if is_state_thrown_away else StateLock(options.state_dir, options.config_path)
    try:
        leave_process_1()
        reset_inherited_state()
        signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)  # until the daemon handles them
        target = _log_target(options)
        if target.kind == 'syslog' and not options.daemonize and sys.stderr.isatty():
            _say_where_it_logs(options)
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
        if not options.zkservers:
            from twitcher.zookeeper.throwaway import ThrowAwayServer  # a megabyte, which no daemon in earnest needs
            server = ThrowAwayServer()
            with _stoppable():
                server.start()
            options.zkservers = server.hosts
            if is_state_thrown_away:  # what is remembered of its znodes is of no use to others
                options.state_dir = server.directory
            _say_how_to_poke(options)
        return run_daemon(Settings(options.zkservers, options.config_path, target, options.max_running, options.state_dir,
                                   lock))
    except _StoppedEarly:
        return 0
    finally:
        if pidfile:
            pidfile.remove()
        if server:
            server.remove()


def _say_where_it_logs(options: argparse.Namespace) -> None:
    report_to_stderr('twitcher', f'running on the files in {options.config_path} and logging to syslog; '
                                 '--log_to_stdout shows the log here')


def _say_how_to_poke(options: argparse.Namespace) -> None:
    log.info('a throw-away ZooKeeper serves at %s; poke a znode from another terminal, for instance: '
             '%s poke --zkservers %s /examples/hello world', options.zkservers, options.twitcherctl, options.zkservers)


def _acquire(lock: StateLock) -> None:
    """Take the lock, and say who we are. Raises LockedError."""
    try:
        lock.acquire(LOCK_TIMEOUT)
        lock.write_pid()
    except OSError:
        return  # the daemon says so in its log, goes on without a state, and tries again


class _StoppedEarly(BaseException):
    """SIGTERM or SIGINT came before there was a loop to handle it."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGINT interrupt what is done inside, which may take seconds, with _StoppedEarly."""
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
    """Where to log, tried out. Raises UsageError."""
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
