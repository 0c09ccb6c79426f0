"""Executes the texts of the files, and hands what they register to the watches.

A file takes effect whole or not at all. One that does not load leaves its previous
version in force; after a restart, that is the last version that has loaded, as the
state has it. A failed file is tried again every RETRY seconds, because the reason may
pass: a user who is not known yet, a file system that is not mounted. A file is also
executed anew when a helper that it imports has changed.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Callable, Deque, Dict, List, Mapping, Sequence, Set

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
MAX_BACKOFF = 64
"""Times RETRY, at most, until a file is tried again whose failure takes long: about an
hour."""
_SLOW = 1.0
"""Seconds for which a failing file may hold up the daemon once every RETRY seconds."""
_BATCH = 200
"""Versions that are noted in one transaction."""
_NO_HELPERS: Mapping[str, bytes] = {}

Replace = Callable[[str, List[WatchSpec], bool], None]


@dataclass
class _Failure:
    """A file that does not load: its text, or why that cannot be had; what was logged;
    and the backoff in units of RETRY."""

    text: Source
    message: str
    backoff: int = 1
    remaining: int = 1


class Loader:
    """The files below `root`. `replace(path, specs, is_same_text)` and `remove(path)`
    put them into force.

    `later(seconds, callback)` calls back; `changed` is called when files that were
    tried again are done.
    """

    def __init__(self, root: str, good_configs: GoodConfigs, replace: Replace, remove: Callable[[str], None],
                 later: Callable[[float, Callable[[], None]], object], changed: Callable[[], None]) -> None:
        self._code = HelperCode(root)
        self._good_configs = good_configs
        self._replace = replace
        self._remove = remove
        self._later = later
        self._changed = changed
        # Of the versions in force; of all files, where imports looked for a helper.
        self._texts: Dict[str, bytes] = {}
        self._helper_texts: Dict[str, Mapping[str, bytes]] = {}
        self._candidates: Dict[str, Set[str]] = {}
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
        """Before `restore`: the files whose last good version an earlier daemon has
        left."""
        return list(self._saved)

    def apply(self, changes: Changes) -> None:
        """Put what a scan of the directory found into force."""
        self._code.begin()
        for path in changes.gone:
            self._forget(path)
        self._load_all({**self._users(changes.helpers), **changes.texts})

    def restore(self, hidden: Sequence[str]) -> None:
        """Put the last good version of those files into force that the first scan could
        not look for."""
        self._load_all({path: ConfigError(f'{path}: its directory cannot be read') for path in hidden})
        self._saved = {}

    def _forget(self, path: str) -> None:
        self._texts.pop(path, None)
        self._helper_texts.pop(path, None)
        self._candidates.pop(path, None)
        self._failures.pop(path, None)
        self._saved.pop(path, None)
        self._good_configs.forget(path)
        self._remove(path)

    def _users(self, helpers: Set[str]) -> Dict[str, Source]:
        """The files that would import one of the helpers, with their texts."""
        paths = [path for path, candidates in self._candidates.items() if not candidates.isdisjoint(helpers)]
        texts = {path: self._failures[path].text if path in self._failures else self._texts[path] for path in paths}
        return {path: text for path, text in texts.items() if isinstance(text, bytes)}

    def _load_all(self, texts: Mapping[str, Source], is_retry: bool = False) -> None:
        try:
            for path, text in texts.items():
                self._load(path, text, is_retry)
        except StopError as error:
            log.warning('%s, and what was to be loaded after it is not', error)
        self._save()

    def _load(self, path: str, text: Source, is_retry: bool) -> None:
        """Execute a text and put it into force, or say why not. Raises StopError."""
        began = time.monotonic()
        try:
            if isinstance(text, ConfigError):
                raise text
            is_same = self._execute(path, text, is_retry=is_retry)
        except StopError:
            raise
        except ConfigError as error:
            self._failed(path, text, error, is_retry, time.monotonic() - began)
        except Exception as error:  # no memory, for instance: it must cost no other file, and is tried again
            log.debug('%s: internal error', path, exc_info=True)
            self._failed(path, text, ConfigError(f'{path}: internal error: {error!r}'), is_retry, time.monotonic() - began)
        else:
            self._loaded(path, text, is_same)

    def _loaded(self, path: str, text: bytes, is_same: bool) -> None:
        """Note a version that has loaded for the next daemon, unless it is what is
        noted."""
        if self._failures.pop(path, None):
            log.info('%s: loads again', path)
        good = GoodConfig(path, text, self._helper_texts.get(path, _NO_HELPERS))
        if not is_same and self._saved.get(path) != good.fingerprint:
            self._unsaved.append(good)
            if len(self._unsaved) >= _BATCH:
                self._save()

    def _execute(self, path: str, text: bytes, helper_texts: Mapping[str, bytes] = _NO_HELPERS,
                 is_retry: bool = False) -> bool:
        """Put a version of a file into force; whether it is the one that was. Raises
        ConfigError or StopError."""
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
        """Say so, unless it is what was said before, and see to it that a version is in
        force."""
        candidates = self._candidates.get(path)
        outcome = self._fall_back(path)
        if candidates is not None:
            self._candidates[path] = candidates
        before = self._failures.get(path)
        message = str(error) if path in self._texts else f'{error}; {outcome}'
        if not is_retry or not before or before.message != message:
            log.error('%s; %s', error, outcome)
        backoff = min(2 * before.backoff, MAX_BACKOFF) if before and is_retry and seconds > _SLOW else 1
        self._failures[path] = _Failure(text, message, backoff, backoff)
        self._retry_later()

    def _fall_back(self, path: str) -> str:
        """Put the last good version of a failed file into force, unless one is; says
        which. Raises StopError."""
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
        """Note the versions that have loaded for the next daemon."""
        if self._unsaved:
            self._good_configs.save(self._unsaved)
            self._unsaved = []

    def _retry_later(self) -> None:
        if not self._is_retry_due:
            self._is_retry_due = True
            self._later(RETRY, self._retry)

    def _retry(self) -> None:
        """Try the failed files again whose backoff is over, one in each round of the
        loop."""
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
