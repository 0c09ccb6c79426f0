"""Turns the texts of the files into specs, and puts these into force.

A file takes effect whole or not at all. One that does not load leaves its previous
version in force; after a restart of the daemon that is the last version that loaded. A
failed file is tried again every RETRY seconds, because the reason may pass: a user who
does not exist yet, a file system that is not mounted. A file is also loaded again when
a helper that it imports has changed.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import AbstractSet, Callable, Deque, Dict, List, Mapping, Sequence, Set

from twitcher.config.directory import Changes
from twitcher.config.helper_modules import HelperCode, Helpers
from twitcher.config.language import load_config
from twitcher.config.scan import Source
from twitcher.config.spec import WatchSpec
from twitcher.errors import ConfigError, StopError
from twitcher.good_configs import GoodConfig, GoodConfigs
from twitcher.log import get_logger

log = get_logger(__name__)

RETRY = 60.0
"""Seconds until a failed file is tried again."""
MAX_INTERVAL = 64
"""Maximum of the interval between two attempts, in units of RETRY, for a file that
takes long to fail: about an hour."""
_SLOW = 1.0
"""Seconds. A file that takes longer to fail is tried again less and less often."""
_BATCH = 200
"""Versions that are saved in one transaction."""
_NO_HELPERS: Mapping[str, bytes] = {}

Replace = Callable[[str, List[WatchSpec], bool], None]


class _Failure:
    """A file that does not load: its text, or why it cannot be read; what was logged;
    and the interval between attempts, and until the next one, in units of RETRY."""

    def __init__(self, text: Source, message: str, interval: int) -> None:
        self.text = text
        self.message = message
        self.interval = self.remaining = interval


class Loader:
    """Loads the files below `root`.

    `replace(path, specs, is_same_text)` puts the specs of a file into force;
    `remove(path)` is called for a file that is gone. `good_configs` keeps the versions
    that loaded for the next daemon. `later(seconds, callback)` calls back; `changed` is
    called after failed files have been tried again.
    """

    def __init__(self, root: str, good_configs: GoodConfigs, replace: Replace, remove: Callable[[str], None],
                 later: Callable[[float, Callable[[], None]], object], changed: Callable[[], None]) -> None:
        self._code = HelperCode(root)
        self._good_configs = good_configs
        self._replace = replace
        self._remove = remove
        self._later = later
        self._changed = changed
        self._texts: Dict[str, bytes] = {}
        """By file: the text of the version in force."""
        self._helper_texts: Dict[str, Mapping[str, bytes]] = {}
        """By file: the helpers that the version in force imports."""
        self._candidates: Dict[str, Set[str]] = {}
        """By file, in force or not: the paths where its imports look for a helper."""
        self._failures: Dict[str, _Failure] = {}
        self._saved = good_configs.fingerprints()
        self._unsaved: List[GoodConfig] = []
        self._is_retry_due = False

    @property
    def failing(self) -> List[str]:
        """The files that do not load."""
        return sorted(self._failures)

    @property
    def known(self) -> List[str]:
        """The files that an earlier daemon loaded; empty after `restore`."""
        return list(self._saved)

    def apply(self, changes: Changes) -> None:
        """Put the changes that a scan has found into force."""
        self._code.begin()
        for path in changes.gone:
            self._forget(path)
        self._load_all({**self._users(changes.helpers), **changes.texts})

    def restore(self, unreadable: Sequence[str]) -> None:
        """Put the last good version of the `unreadable` files into force: those in
        directories that the first scan could not read."""
        self._load_all({path: ConfigError(f'{path}: its directory cannot be read') for path in unreadable})
        self._saved = {}

    def _forget(self, path: str) -> None:
        self._texts.pop(path, None)
        self._helper_texts.pop(path, None)
        self._candidates.pop(path, None)
        self._failures.pop(path, None)
        self._saved.pop(path, None)
        self._good_configs.forget(path)
        self._remove(path)

    def _users(self, helpers: AbstractSet[str]) -> Dict[str, Source]:
        """The files whose imports depend on one of the helpers, with their texts."""
        paths = [path for path, candidates in self._candidates.items() if not candidates.isdisjoint(helpers)]
        texts = {path: self._failures[path].text if path in self._failures else self._texts[path] for path in paths}
        return {path: text for path, text in texts.items() if isinstance(text, bytes)}

    def _load_all(self, texts: Mapping[str, Source], is_retry: bool = False) -> None:
        try:
            for path, text in texts.items():
                self._load(path, text, is_retry)
        except StopError as error:
            log.warning('%s; files after it were not loaded', error)
        self._save()

    def _load(self, path: str, text: Source, is_retry: bool) -> None:
        """Put a text into force, or log why that fails. Raises StopError."""
        began = time.monotonic()
        try:
            if isinstance(text, ConfigError):
                raise text
            is_same = self._execute(path, text, is_retry=is_retry)
        except StopError:
            raise
        except ConfigError as error:
            self._failed(path, text, error, is_retry, time.monotonic() - began)
        except Exception as error:  # such as MemoryError: other files must load all the same
            log.debug('%s: internal error', path, exc_info=True)
            self._failed(path, text, ConfigError(f'{path}: internal error: {error!r}'), is_retry, time.monotonic() - began)
        else:
            self._loaded(path, text, is_same)

    def _loaded(self, path: str, text: bytes, is_same: bool) -> None:
        """Save a version that has loaded, unless it is saved already."""
        if self._failures.pop(path, None):
            log.info('%s: loads again', path)
        good = GoodConfig(path, text, self._helper_texts.get(path, _NO_HELPERS))
        if not is_same and self._saved.get(path) != good.fingerprint:
            self._unsaved.append(good)
            if len(self._unsaved) >= _BATCH:
                self._save()

    def _execute(self, path: str, text: bytes, helper_texts: Mapping[str, bytes] = _NO_HELPERS,
                 is_retry: bool = False) -> bool:
        """Execute a version of a file and put it into force. Returns whether it is the
        one that was in force. Raises ConfigError or StopError."""
        helpers = Helpers(self._code, path, helper_texts)
        try:
            specs = load_config(path, text, helpers=helpers, is_retry=is_retry)
        finally:
            self._candidates.pop(path, None)
            if helpers.candidates:
                self._candidates[path] = helpers.candidates
        is_same = self._texts.get(path) == text and self._helper_texts.get(path, _NO_HELPERS) == helpers.texts
        self._replace(path, specs, is_same)
        self._texts[path] = text
        self._helper_texts.pop(path, None)
        if helpers.texts:
            self._helper_texts[path] = helpers.texts
        return is_same

    def _failed(self, path: str, text: Source, error: ConfigError, is_retry: bool, seconds: float) -> None:
        """Fall back to a good version, and log the error unless it was logged
        before."""
        candidates = self._candidates.get(path)
        outcome = self._fall_back(path)
        if candidates is not None:
            self._candidates[path] = candidates
        before = self._failures.get(path)
        message = str(error) if path in self._texts else f'{error}; {outcome}'
        if not is_retry or not before or before.message != message:
            log.error('%s; %s', error, outcome)
        interval = min(2 * before.interval, MAX_INTERVAL) if before and is_retry and seconds > _SLOW else 1
        self._failures[path] = _Failure(text, message, interval)
        self._retry_later()

    def _fall_back(self, path: str) -> str:
        """Put the last good version of a failed file into force, if no version is.
        Returns what is in force, for the log. Raises StopError."""
        if path in self._texts:
            return 'its previous version stays in force'
        good = self._good_configs.find(path)
        if not good:
            return 'not loaded'
        try:
            self._execute(path, good.text, good.helpers)
        except ConfigError as error:
            return f'not loaded; nor does its last good version load any more: {error}'
        return f'its version of {time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(good.loaded))} is in force'

    def _save(self) -> None:
        """Save the versions that have loaded for the next daemon."""
        if self._unsaved:
            self._good_configs.save(self._unsaved)
            self._unsaved = []

    def _retry_later(self) -> None:
        if not self._is_retry_due:
            self._is_retry_due = True
            self._later(RETRY, self._retry)

    def _retry(self) -> None:
        """Try the failed files that are due again, one in each round of the loop."""
        due: Deque[str] = deque()
        for path, failure in self._failures.items():
            failure.remaining -= 1
            if failure.remaining <= 0 and isinstance(failure.text, bytes):
                due.append(path)
        self._code.begin()
        self._retry_next(due)

    def _retry_next(self, due: Deque[str]) -> None:
        failure = self._failures.get(due[0]) if due else None
        try:
            if failure:
                self._load_all({due[0]: failure.text}, is_retry=True)
        finally:
            if due:
                due.popleft()
            if due:
                self._later(0, partial(self._retry_next, due))
            else:
                self._changed()
                self._is_retry_due = False
                if self._failures:
                    self._retry_later()
