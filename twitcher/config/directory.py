"""The directory of .twc files: which are there, which changed, what they say.

Guarantees: after anything happens below the root, `on_change` is called with every file whose text is new and every file
that is gone, compared with the last call. What is true is what a scan finds; events only say when to scan.

A scan can come at any instant of an edit. So a text is believed, and only then remembered, if no event about the file has
come for a moment (or, while it is open for writing, for WRITING_LIMIT), and none while it was read. An empty text in the
place of another is believed at a second scan only, and so is one that no event could have told of. What cannot be read
stays as it was, and is tried again.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple

from twitcher.config.directory_problems import Problem, Problems, is_lasting
from twitcher.config.inotify import Change
from twitcher.config.scan import Entry, File, Source, Stats, Tree, read
from twitcher.config.watched_scan import Scanner
from twitcher.errors import ConfigError
from twitcher.log import get_logger
from twitcher.log_target import DEBUG, INFO

log = get_logger(__name__)

SETTLE = 0.05
"""Seconds from an event to the scan: an editor's or a package manager's events come in bursts."""
QUIET = 0.025
"""Seconds without an event after which a closed file is believed: long enough for a script's next line."""
WRITING_LIMIT = 10.0
"""Seconds after its last write that a file which is still open for writing is read all the same."""
EMPTY_DELAY = 2.0
"""Seconds that a file must have been empty to be believed if it was not so before: `> FILE; ...; cat ... >> FILE`."""
UNREPORTED_DELAY = 1.0
"""Seconds that a text must have stayed the same to be believed where inotify may say nothing."""
POLL = 10.0
"""Seconds between two scans when inotify does not report everything."""


@dataclass(frozen=True)
class Changes:
    """What a scan found: files with their new text, or why it cannot be had; the files that are gone; and the helper
    modules that are new, changed or gone."""

    texts: Dict[str, Source]
    gone: List[str]
    helpers: Set[str] = field(default_factory=set)


Reading = Tuple[Stats, Source]


class ConfigDir:
    """Follows the .twc files below `root`; `start` once, on a running loop.

    Files that are in `known`, and no longer there, are reported as gone.
    """

    def __init__(self, root: str, on_change: Callable[[Changes], None], known: Iterable[str] = ()) -> None:
        self._root = os.path.abspath(root)
        self._on_change = on_change
        self._known = set(known)
        self.hidden: List[str] = []
        """The known files that may be there, in directories that cannot be read."""
        self._files: Dict[str, File] = {}
        self._helpers: Dict[str, Stats] = {}
        self._sources: Dict[str, Source] = {}
        self._unconfirmed: Dict[str, Tuple[Reading, float]] = {}
        self._unsettled: Set[str] = set()
        """Files whose text was not believed by the last scan."""
        self._forced: Set[str] = set()
        """Files that a reread has still to report, whatever they say."""
        self._quiet_at: Dict[Optional[Entry], float] = {}
        """When there will have been no event for long enough, for each entry that has had one since it was believed."""
        self._problems = Problems()
        self._found: Dict[str, Problem] = {}
        self._scan_timer: Optional[asyncio.TimerHandle] = None
        self._has_scanned = False

    def start(self) -> None:
        """Read everything and follow it from now on. Calls `on_change` before it returns, if there is any file."""
        self._loop = asyncio.get_running_loop()
        self._scanner = Scanner(self._root, self._loop, self._note, lambda: self._schedule_scan(SETTLE))
        self._rescan()

    def stop(self) -> None:
        """Follow nothing any more."""
        if self._scan_timer:
            self._scan_timer.cancel()
        self._scanner.stop()

    def reread(self) -> None:
        """Scan now and report every file, also those whose text is what it was."""
        self._forced.update(self._sources)
        self._rescan(reads_all=True)

    def _rescan(self, reads_all: bool = False) -> None:
        if self._scan_timer:
            self._scan_timer.cancel()
            self._scan_timer = None
        self._found = {}
        tree = self._scanner.scan()
        self._note_problems(tree)
        seen = dict(self._quiet_at)
        readings = self._read_changed(tree, reads_all)
        gone = [path for path in self._sources if path not in tree.files and not tree.may_hold(path)]
        self._scanner.drain()
        self._report(tree, readings, gone, seen)
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
        """What the files say that may have changed; None for what is not to be believed yet."""
        readings: Dict[str, Optional[Reading]] = {}
        everything = reads_all or None in self._quiet_at
        for path, file in tree.files.items():
            known = self._files.get(path)
            # Two edits in one tick of the file system's clock leave the same stats: hence the events.
            if (everything or known is None or known.stats != file.stats or path in self._unsettled
                    or not self._quiet_at.keys().isdisjoint(file.entries)):
                readings[path] = self._read(path) if self._is_quiet(file.entries) else None
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
            # Logged where the error is, as that of a file that does not load.
            self._found[path] = Problem(f'cannot be read: {error.strerror}', DEBUG, 'can be read again', lasts, True)
            if not lasts and not self._problems.has_lasted(path, self._loop.time()):
                return None
            return (0, 0, 0, 0, 0), ConfigError(f'{path}: cannot be read: {error.strerror}')
        if reading is None:
            self._schedule_scan(SETTLE)
        return reading

    def _report(self, tree: Tree, readings: Dict[str, Optional[Reading]], gone: List[str],
                seen: Dict[Optional[Entry], float]) -> None:
        """Remember and report what can be believed after the events that came since those that were `seen`."""
        touched = {entry for entry, due in self._quiet_at.items() if seen.get(entry) != due}
        texts: Dict[str, Source] = {}
        unsettled: Set[str] = set()
        kept: Set[Optional[Entry]] = set()
        for path, reading in readings.items():
            file = tree.files[path]
            if (reading is None or not touched.isdisjoint((*file.entries, None)) or not self._is_quiet(file.entries)
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
        really_gone = [path for path in gone if touched.isdisjoint((*self._files[path].entries, None))
                       and self._is_quiet(self._files[path].entries)]
        for path in really_gone:
            del self._sources[path], self._files[path]
            self._forced.discard(path)
        really_gone += self._missing_known(tree)
        helpers = self._changed_helpers(tree, touched, kept)
        self._unsettled = unsettled
        self._unconfirmed = {path: value for path, value in self._unconfirmed.items() if path in unsettled}
        now = self._loop.time()
        self._quiet_at = {entry: due for entry, due in self._quiet_at.items()
                          if due > now or entry in kept or entry in touched}
        if texts or really_gone or helpers:
            self._on_change(Changes(texts, really_gone, helpers))

    def _missing_known(self, tree: Tree) -> List[str]:
        """The files that were there before the start, have not been reported since, and are no longer there."""
        self._known.difference_update(self._sources)
        missing = sorted(self._known.difference(tree.files))
        self.hidden = [path for path in missing if tree.may_hold(path)]
        gone = [path for path in missing if not tree.may_hold(path)]
        self._known.difference_update(gone)
        return gone

    def _changed_helpers(self, tree: Tree, touched: Set[Optional[Entry]], kept: Set[Optional[Entry]]) -> Set[str]:
        """The helpers that are not what they were. One that is being written is left for a later scan."""
        changed = {path for path in self._helpers if path not in tree.helpers and not tree.may_hold(path)}
        for path in changed:
            del self._helpers[path]
        for path, file in tree.helpers.items():
            entries = (*file.entries, None)
            if self._helpers.get(path) == file.stats and self._quiet_at.keys().isdisjoint(entries):
                continue
            if touched.isdisjoint(entries) and self._is_quiet(file.entries):
                self._helpers[path] = file.stats
                changed.add(path)
            else:
                kept.update(file.entries)
        return changed

    def _is_quiet(self, entries: Tuple[Entry, ...]) -> bool:
        """Whether nobody is in the middle of changing the file, so far as events tell."""
        if not self._quiet_at:
            return True
        now = self._loop.time()
        due = max(self._quiet_at.get(entry, now) for entry in (*entries, None))
        if due > now:
            self._schedule_scan(due - now)
        return due <= now

    def _is_confirmed(self, path: str, file: File, reading: Reading) -> bool:
        """Whether the text, if it is of a kind that may not last, has been there for long enough."""
        before, source = self._sources.get(path), reading[1]
        was_full = path in self._known if before is None else not _is_empty(before)
        if before is None and not self._has_scanned and not (was_full and _is_empty(source)):
            return True
        is_reported = any(entry in self._quiet_at for entry in file.entries)
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

    def _note(self, entry: Optional[Entry], change: Change) -> None:
        """One event: remember from when on the file can be believed, and scan then."""
        now = self._loop.time()
        if change is Change.WRITING:
            self._quiet_at[entry] = now + WRITING_LIMIT
            self._schedule_scan(WRITING_LIMIT)
            return
        quiet_at = now + QUIET
        self._quiet_at[entry] = quiet_at if change is Change.COMPLETE else max(quiet_at, self._quiet_at.get(entry, 0.0))
        self._schedule_scan(SETTLE)

    def _schedule_scan(self, seconds: float) -> None:
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
