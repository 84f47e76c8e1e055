"""Results on disk that survive the process: cells of maps, by the content they were made from."""

import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ExplorerError

DEFAULT_CAP_MB = 512
_FILE = "maps.sqlite"
# Another layout of the tables takes another number; a file of an older one is begun anew.
_LAYOUT = 1
_TABLES = """
CREATE TABLE sets (
    key TEXT PRIMARY KEY, title TEXT NOT NULL, bytes INTEGER NOT NULL, used REAL NOT NULL
);
CREATE TABLE cells (
    key TEXT, a1 REAL, a2 REAL, classes BLOB NOT NULL, PRIMARY KEY (key, a1, a2)
) WITHOUT ROWID;
"""
# What a row takes beside its blob, roughly: the cap is meant for the file.
_ROW_BYTES = 110


@dataclass(frozen=True)
class StoredSet:
    """One map in the store: what it is of, how many cells, megabytes, and when it was used."""

    title: str
    cells: int
    megabytes: float
    used: float


class Store:
    """A folder with one sqlite file of results, kept below a size.

    By default the user's cache folder, or EXPLORER_CACHE, and 512 MB, or EXPLORER_CACHE_MB. The
    sets used longest ago are dropped first.
    """

    def __init__(self, folder: Path | str | None = None, cap_mb: float | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self.path = self.folder / _FILE
        given = cap_in_mb("EXPLORER_CACHE_MB", DEFAULT_CAP_MB) if cap_mb is None else cap_mb
        self.cap = round(given * 1e6)

    def set(self, key: str, title: str) -> "CellSet":
        """The cells under a key; ``title`` says what they are of. Never raises."""
        return CellSet(self, key, title)

    def listing(self) -> list[StoredSet]:
        """What is stored, last used first. Raises ExplorerError for a file that is no store."""
        if not self.path.exists():
            return []
        query = (
            "SELECT title, (SELECT count(*) FROM cells WHERE cells.key = sets.key), "
            "bytes / 1e6, used FROM sets ORDER BY used DESC"
        )
        try:
            with closing(self.connect()) as connection:
                return [StoredSet(*row) for row in connection.execute(query)]
        except (sqlite3.Error, OSError) as error:
            raise ExplorerError(
                f"The cache {self.path} cannot be read: {_reason(error)}."
            ) from None

    def clear(self) -> None:
        """Delete everything stored, a damaged file too. Raises ExplorerError if that fails."""
        try:
            for suffix in ("", "-wal", "-shm", "-journal"):
                self.path.with_name(_FILE + suffix).unlink(missing_ok=True)
        except OSError as error:
            raise ExplorerError(
                f"The cache {self.path} cannot be deleted: {_reason(error)}."
            ) from None

    def connect(self) -> sqlite3.Connection:
        """A connection to the file, made with its tables where there is none. Raises sqlite3.Error,
        OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Runs may go on in another thread than they began in; a CellSet takes turns with a lock.
        connection = sqlite3.connect(self.path, timeout=5, check_same_thread=False)
        try:
            # A write-ahead log: readers and a writer at once, and no wait for the disk a cell.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                if connection.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
                    _begin_anew(connection)
        except BaseException:
            connection.close()
            raise
        return connection


class CellSet:
    """Cells under one key. A store that fails is left alone from then on, and ``note`` says why.

    What was put is on disk when ``put`` or ``put_all`` returns, and stays if the process is killed.
    """

    def __init__(self, store: Store, key: str, title: str) -> None:
        self._store, self._key = store, key
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.note = "saved"
        try:
            self._connection = store.connect()
            with self._connection as connection:
                connection.execute(
                    "INSERT INTO sets VALUES (?, ?, 0, ?) "
                    "ON CONFLICT (key) DO UPDATE SET used = excluded.used",
                    (key, title, time.time()),
                )
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def get(self, a1: float, a2: float) -> bytes | None:
        """The cell's bytes, or None."""
        with self._lock:
            if self._connection is None:
                return None
            query = "SELECT classes FROM cells WHERE key = ? AND a1 = ? AND a2 = ?"
            try:
                row = self._connection.execute(query, (self._key, a1, a2)).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return None
            return bytes(row[0]) if row else None

    def put(self, a1: float, a2: float, classes: bytes) -> None:
        """Store a cell; evicts other sets, the longest unused first, to stay below the cap."""
        self.put_all({(a1, a2): classes})

    def put_all(self, cells: Mapping[tuple[float, float], bytes]) -> None:
        """Store several cells in one transaction: hundreds take a few milliseconds."""
        with self._lock:
            if self._connection is None or not cells:
                return
            size = sum(len(classes) + _ROW_BYTES for classes in cells.values())
            rows = [(self._key, *cell, classes) for cell, classes in cells.items()]
            try:
                with self._connection as connection:
                    connection.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?)", rows)
                    connection.execute(
                        "UPDATE sets SET bytes = bytes + ? WHERE key = ?", (size, self._key)
                    )
                    fits = _evict(connection, self._store.cap, self._key)
                    if not fits:
                        connection.rollback()
                if not fits:
                    self._leave(f"the cache holds at most {self._store.cap / 1e6:g} MB")
            except sqlite3.Error as error:
                self._give_up(error)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _give_up(self, error: Exception) -> None:
        self._leave(f"the cache cannot be used ({_reason(error)})")

    def _leave(self, why: str) -> None:
        self.note = f"not saved: {why}"
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def default_folder() -> Path:
    """EXPLORER_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_path

    given = os.environ.get("EXPLORER_CACHE")
    return Path(given).expanduser() if given else user_cache_path("weight-explorer")


def cap_in_mb(variable: str, default: float) -> float:
    """A cache's cap in megabytes, from a variable of the environment. Raises ExplorerError."""
    text = os.environ.get(variable, str(default))
    try:
        cap = float(text)
    except ValueError:
        cap = -1
    if not 0 <= cap < float("inf"):
        raise ExplorerError(f"{variable} is a number of megabytes, not {text!r}.")
    return cap


def _begin_anew(connection: sqlite3.Connection) -> None:
    for table in ("sets", "cells"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_LAYOUT}")


def _evict(connection: sqlite3.Connection, cap: int, keep: str) -> bool:
    """Drop the sets used longest ago until the rest fits; False if ``keep`` alone does not."""
    (total,) = connection.execute("SELECT total(bytes) FROM sets").fetchone()
    others: list[Any] = []
    if total > cap:
        query = "SELECT key, bytes FROM sets WHERE key != ? ORDER BY used"
        others = connection.execute(query, (keep,)).fetchall()
    for key, size in others:
        if total <= cap:
            break
        connection.execute("DELETE FROM cells WHERE key = ?", (key,))
        connection.execute("DELETE FROM sets WHERE key = ?", (key,))
        total -= size
    return total <= cap


def _reason(error: Exception) -> str:
    """What went wrong in a few words."""
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return f"its file is damaged, {error}; delete it with: explorer zoo cache --clear"
    return getattr(error, "strerror", None) or str(error)
