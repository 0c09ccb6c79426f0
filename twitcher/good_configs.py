"""Keeps the last version of each .twc file that loaded, with the helpers that it
imports, for the next daemon."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Tuple
from zlib import adler32, crc32

from twitcher.database import Database

SCHEMA = """
    CREATE TABLE config (
        path TEXT PRIMARY KEY, text BLOB NOT NULL, fingerprint INTEGER NOT NULL, loaded REAL NOT NULL);
    CREATE TABLE helper (config TEXT NOT NULL, path TEXT NOT NULL, text BLOB NOT NULL, PRIMARY KEY (config, path));
"""
_GOOD_CONFIG = """
    INSERT INTO config VALUES (?, ?, ?, ?)
    ON CONFLICT (path) DO UPDATE SET text = excluded.text, fingerprint = excluded.fingerprint, loaded = excluded.loaded
"""
_GOOD_CONFIGS = 'SELECT text, loaded, fingerprint FROM config'
_GOOD_HELPER = """
    INSERT INTO helper VALUES (?, ?, ?)
    ON CONFLICT (config, path) DO UPDATE SET text = excluded.text
"""
_USING_HELPERS = 'SELECT DISTINCT config FROM helper WHERE text IS NOT NULL'
_GOOD_HELPERS = 'SELECT path, text FROM helper WHERE config = ?'


QUERIES = [f'{_GOOD_CONFIGS} LIMIT 0', f'{_USING_HELPERS} LIMIT 0']
"""Queries that fail if the tables are not ours."""


class GoodConfig(NamedTuple):
    """A version of a .twc file that loaded, and the texts of the helpers that it
    imports, by path.

    `loaded` is when it was first loaded, in seconds since 1970; 0 before it is saved.
    """

    path: str
    text: bytes
    helpers: Mapping[str, bytes]
    loaded: float = 0

    @property
    def fingerprint(self) -> int:
        """Differs between the versions of a file."""
        crc, adler = crc32(self.text), adler32(self.text)
        for name, text in sorted(self.helpers.items()):
            crc, adler = (checksum(text, checksum(os.fsencode(name), value))
                          for checksum, value in ((crc32, crc), (adler32, adler)))
        return crc | (adler & 0x7fffffff) << 32


class GoodConfigs:
    """The versions in the database. No method raises."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._using_helpers = {path for path, in database.rows(_USING_HELPERS)}

    def fingerprints(self) -> Dict[str, int]:
        """The .twc files that have a good version, with its fingerprint."""
        return dict(self._database.rows('SELECT path, fingerprint FROM config'))

    def find(self, path: str) -> Optional[GoodConfig]:
        """The last good version of a .twc file, if there is one."""
        for text, loaded, _ in self._database.rows(f'{_GOOD_CONFIGS} WHERE path = ?', path):
            helpers = {helper: _as_bytes(source) for helper, source in self._database.rows(_GOOD_HELPERS, path)}
            return GoodConfig(path, _as_bytes(text), helpers, loaded)
        return None

    def save(self, configs: Iterable[GoodConfig]) -> None:
        """Save versions that have loaded, replacing earlier ones."""
        self._database.note_all(self._notes_of(configs))

    def forget(self, path: str) -> None:
        """The .twc file is gone."""
        self._using_helpers.discard(path)
        self._database.note_all([(f'config {path}', 'DELETE FROM config WHERE path = ?', (path,)),
                                 (f'helpers {path}', 'DELETE FROM helper WHERE config = ?', (path,))])

    def _notes_of(self, configs: Iterable[GoodConfig]) -> Iterator[Tuple[str, str, Tuple[Any, ...]]]:
        now = time.time()
        for config in configs:
            path, helpers = config.path, config.helpers
            yield f'config {path}', _GOOD_CONFIG, (path, config.text, config.fingerprint, now)
            if helpers or path in self._using_helpers:
                marks = ', '.join('?' * len(helpers))
                yield f'helpers {path}', f'DELETE FROM helper WHERE config = ? AND path NOT IN ({marks})', (path, *helpers)
            for helper, text in helpers.items():
                self._using_helpers.add(path)
                yield f'helper {path} {helper}', _GOOD_HELPER, (path, helper, text)


def _as_bytes(text: str) -> bytes:
    """The database returns all bytes as text."""
    return text.encode('utf-8', 'surrogateescape')
