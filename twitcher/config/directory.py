"""The directory of .twc files: which files there are, which have changed, and their
texts.

Guarantees: after a change below the root, `on_change` is called with every file whose
text is new and every file that is gone, compared with the last call. Nothing is
reported that an edit in progress has left for a moment. A scan of the disk decides;
events only say when to scan.
"""

from __future__ import annotations

import asyncio
import os
from typing import AbstractSet, Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple

from twitcher.config.directory_problems import Problem, Problems, is_lasting
from twitcher.config.recent_events import SETTLE, RecentEvents
from twitcher.config.scan import Entry, File, Source, Stats, Tree, read
from twitcher.config.watched_scan import Scanner
from twitcher.errors import ConfigError
from twitcher.log import get_logger
from twitcher.log_target import DEBUG, INFO

log = get_logger(__name__)

EMPTY_DELAY = 2.0
"""Seconds that a file must have been empty before the empty text replaces another
one."""
UNREPORTED_DELAY = 1.0
"""Seconds that a text must have stayed the same where inotify may report nothing."""
POLL = 10.0
"""Seconds between two scans when inotify does not report everything."""


class Changes(NamedTuple):
    """The result of a scan: files with their new text, or the reason why it cannot be
    had; files that are gone; helper modules that are new, changed or gone."""

    texts: Dict[str, Source]
    gone: List[str]
    helpers: AbstractSet[str] = frozenset()


Reading = Tuple[Stats, Source]

# The concerns of a scan:
#
# - An edit may be in progress. A text counts only if the file was quiet before it was
#   read and had no event while it was read (`recent_events`).
# - Two edits in one tick of the file system's clock leave the same stats: a file that
#   had an event is read even if its stats are unchanged.
# - `> FILE; ...; cat ... >> FILE` leaves an empty, closed file for a while: an empty
#   text replaces another one only after EMPTY_DELAY.
# - inotify may report nothing (network file systems, mounts, limits of the kernel):
#   then scan every POLL, and accept a text once it has been the same for
#   UNREPORTED_DELAY.
# - The kernel may drop events: then read every file again.
# - A file or directory may be unreadable for a moment (EIO, ESTALE): its files stay as
#   they were, and the scan is repeated until they can be read.
# - A file may have been removed while no daemon was running: see `known`.


class ConfigDir:
    """Follows the .twc files below `root`; call `start` once, on a running loop.

    `known` are the files that an earlier daemon had loaded. Those that no longer exist
    are reported as gone.
    """

    def __init__(self, root: str, on_change: Callable[[Changes], None], known: Iterable[str] = ()) -> None:
        self._root = os.path.abspath(root)
        self._on_change = on_change
        self._known = set(known)
        self.unreadable: List[str] = []
        """The known files that may still exist, in directories that cannot be read."""
        self._files: Dict[str, File] = {}
        self._helpers: Dict[str, Stats] = {}
        self._sources: Dict[str, Source] = {}
        self._unconfirmed: Dict[str, Tuple[Reading, float]] = {}
        self._unsettled: Set[str] = set()
        """Files whose text the last scan did not accept."""
        self._forced: Set[str] = set()
        """Files that must still be reported for a reread, even if they are
        unchanged."""
        self._problems = Problems()
        self._found: Dict[str, Problem] = {}
        self._scan_timer: Optional[asyncio.TimerHandle] = None
        self._has_scanned = False

    def start(self) -> None:
        """Read everything and follow it from now on. Calls `on_change` before it
        returns, unless there is no file."""
        self._loop = asyncio.get_running_loop()
        self._events = RecentEvents(self._loop.time, self._schedule_scan)
        self._scanner = Scanner(self._root, self._loop, self._events.add, lambda: self._schedule_scan(SETTLE))
        self._rescan()

    def stop(self) -> None:
        """Stop following the directory."""
        if self._scan_timer:
            self._scan_timer.cancel()
        self._scanner.stop()

    def reread(self) -> None:
        """Scan now and report every file, including unchanged ones."""
        self._forced.update(self._sources)
        self._rescan(reads_all=True)

    def _rescan(self, reads_all: bool = False) -> None:
        if self._scan_timer:
            self._scan_timer.cancel()
            self._scan_timer = None
        self._found = {}
        tree = self._scanner.scan()
        self._note_problems(tree)
        before = self._events.snapshot()
        readings = self._read_changed(tree, reads_all)
        gone = [path for path in self._sources if path not in tree.files and not tree.may_hold(path)]
        self._scanner.drain()
        self._report(tree, readings, gone, self._events.since(before))
        self._has_scanned = True
        retry = self._problems.update(self._found, self._loop.time())
        if retry is not None:
            self._schedule_scan(retry)

    def _note_problems(self, tree: Tree) -> None:
        for directory, error in tree.unreadable.items():
            self._found[directory] = Problem(f'cannot be read: {error.strerror}; what it held stays in force',
                                             end='can be read again', is_lasting=is_lasting(error), is_retried=True)
        for path, reason in tree.ignored.items():
            self._found[path] = Problem(reason)
        for reason in self._scanner.shortages:
            self._found[reason] = Problem(f'scanning {self._root} every {POLL:g} s instead', end='that has passed',
                                          is_lasting=True)
        for path, reason in self._scanner.silent.items():
            self._found.setdefault(path, Problem(f'inotify does not report every change {reason}: scanning every {POLL:g} s '
                                                 'as well', INFO, is_lasting=True))
        if self._scanner.limited or self._scanner.shortages:
            self._schedule_scan(POLL)

    def _read_changed(self, tree: Tree, reads_all: bool) -> Dict[str, Optional[Reading]]:
        """Read the files that may have changed. None for a file that is not quiet or
        cannot be read at the moment."""
        readings: Dict[str, Optional[Reading]] = {}
        everything = reads_all or self._events.are_incomplete
        for path, file in tree.files.items():
            known = self._files.get(path)
            if (everything or known is None or known.stats != file.stats or path in self._unsettled
                    or self._events.have(file.entries)):
                readings[path] = self._read(path) if self._events.are_quiet(file.entries) else None
                if readings[path] is None:
                    self._problems.carry_over(path, self._found)
        return readings

    def _read(self, path: str) -> Optional[Reading]:
        try:
            reading = read(path)
        except FileNotFoundError:
            reading = None
        except OSError as error:
            lasts = is_lasting(error)
            # At DEBUG: the loader logs it, as the error of a file that does not load.
            self._found[path] = Problem(f'cannot be read: {error.strerror}', DEBUG, 'can be read again', lasts, True)
            if not lasts and not self._problems.has_lasted(path, self._loop.time()):
                return None
            return (0, 0, 0, 0, 0), ConfigError(f'{path}: cannot be read: {error.strerror}')
        if reading is None:
            self._schedule_scan(SETTLE)
        return reading

    def _report(self, tree: Tree, readings: Dict[str, Optional[Reading]], gone: List[str],
                touched: Set[Optional[Entry]]) -> None:
        """Remember and report what is settled. `touched` are the entries that had an
        event while the files were read."""
        texts: Dict[str, Source] = {}
        unsettled: Set[str] = set()
        kept: Set[Optional[Entry]] = set()
        for path, reading in readings.items():
            file = tree.files[path]
            if (reading is None or not self._is_settled(file.entries, touched)
                    or not self._is_confirmed(path, file, reading)):
                unsettled.add(path)
                kept.update(file.entries)
                continue
            stats, source = reading
            before = self._sources.get(path)
            self._files[path], self._sources[path] = file._replace(stats=stats), source
            if path in self._forced or not _is_same(before, source):
                texts[path] = source
            self._forced.discard(path)
        really_gone = [path for path in gone if self._is_settled(self._files[path].entries, touched)]
        for path in really_gone:
            del self._sources[path], self._files[path]
            self._forced.discard(path)
        really_gone += self._missing_known(tree)
        helpers = self._changed_helpers(tree, touched, kept)
        self._unsettled = unsettled
        self._unconfirmed = {path: value for path, value in self._unconfirmed.items() if path in unsettled}
        self._events.forget_quiet(but=kept | touched)
        if texts or really_gone or helpers:
            self._on_change(Changes(texts, really_gone, helpers))

    def _missing_known(self, tree: Tree) -> List[str]:
        """The known files that no longer exist and have not been reported as gone."""
        self._known.difference_update(self._sources)
        missing = sorted(self._known.difference(tree.files))
        self.unreadable = [path for path in missing if tree.may_hold(path)]
        gone = [path for path in missing if not tree.may_hold(path)]
        self._known.difference_update(gone)
        return gone

    def _changed_helpers(self, tree: Tree, touched: Set[Optional[Entry]], kept: Set[Optional[Entry]]) -> Set[str]:
        """The helpers that are new, changed or gone. One that is not settled is left to
        a later scan: its entries are added to `kept`."""
        changed = {path for path in self._helpers if path not in tree.helpers and not tree.may_hold(path)}
        for path in changed:
            del self._helpers[path]
        for path, file in tree.helpers.items():
            if self._helpers.get(path) == file.stats and not self._events.have((*file.entries, None)):
                continue
            if self._is_settled(file.entries, touched):
                self._helpers[path] = file.stats
                changed.add(path)
            else:
                kept.update(file.entries)
        return changed

    def _is_settled(self, entries: Tuple[Entry, ...], touched: Set[Optional[Entry]]) -> bool:
        """Whether the file was quiet before it was read, and while it was read."""
        return touched.isdisjoint((*entries, None)) and self._events.are_quiet(entries)

    def _is_confirmed(self, path: str, file: File, reading: Reading) -> bool:
        """Whether the text has been there for long enough, if it is of a kind that may
        not last: an empty one, or one that changed without an event."""
        before, source = self._sources.get(path), reading[1]
        was_full = path in self._known if before is None else not _is_empty(before)
        if before is None and not self._has_scanned and not (was_full and _is_empty(source)):
            return True
        is_reported = self._events.have(file.entries)
        limited = self._scanner.limited
        is_limited = file.file_id in limited or any(directory in limited for directory, _ in file.entries)
        delay = 0.0
        if was_full and _is_empty(source):
            delay = EMPTY_DELAY
        elif self._has_scanned and is_limited and not is_reported and not _is_same(before, source):
            delay = UNREPORTED_DELAY
        if not delay:
            self._unconfirmed.pop(path, None)
            return True
        now = self._loop.time()
        earlier, due = self._unconfirmed.get(path, (None, 0.0))
        if earlier is None or earlier[0] != reading[0] or not _is_same(earlier[1], source):
            due = now + delay
        if due <= now:
            del self._unconfirmed[path]
            return True
        self._unconfirmed[path] = reading, due
        self._schedule_scan(due - now)
        return False

    def _schedule_scan(self, seconds: float) -> None:
        """Scan in so many seconds, unless an earlier scan is scheduled."""
        due = self._loop.time() + seconds
        if self._scan_timer and self._scan_timer.when() > due:
            self._scan_timer.cancel()
            self._scan_timer = None
        if not self._scan_timer:
            self._scan_timer = self._loop.call_at(due, self._rescan)


def _is_same(before: Optional[Source], after: Source) -> bool:
    both_failed = isinstance(before, ConfigError) and isinstance(after, ConfigError) and str(before) == str(after)
    return before == after or both_failed


def _is_empty(source: Source) -> bool:
    return isinstance(source, bytes) and not source.strip()
