"""The store's file: made whole or not at all, locked against a second manager, refused when it is damaged.

A new store is made beside its place and renamed there when it is complete: an empty or half-written file under the
store's name is therefore always damage, and never taken for a new store (its emptiness would end all services).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path

from pycompose.manager.store.interface import StoreError, StoreFullError

#: Raised when the tables change; see `_upgrade`.
SCHEMA_VERSION = 2
LOCK_SECONDS = 5.0
#: A file up to this size is checked whole at each start (about 1 ms a MB).
CHECKED_BYTES = 256 * 1024 * 1024
WAL_BYTES = 16 * 1024 * 1024
HISTORY = """
CREATE TABLE log (revision INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, created INTEGER
    NOT NULL, previous BLOB, PRIMARY KEY (revision, position)) WITHOUT ROWID;
"""
SCHEMA = (
    """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE kv (key TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,
    lease INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX kv_lease ON kv (lease) WHERE lease != 0;
CREATE TABLE lease (id INTEGER PRIMARY KEY AUTOINCREMENT, ttl REAL NOT NULL);
"""
    + HISTORY
)


def explain(path: Path, error: Exception) -> StoreError:
    """Return what went wrong with the file, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFullError(f"{path}: there is no space left on its disk; make room, then try again")
    if code == sqlite3.SQLITE_BUSY:
        return StoreError(f"{path}: another manager uses this store; end that one first")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, str(error))
    return StoreError(f"{path}: the store cannot be used ({error}); check its disk")


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(
        f"{path}: the store is damaged ({what}); put a backup of it in its place, or move it away to begin without "
        "services (containers that run are removed then)"
    )


def open_file(path: Path) -> sqlite3.Connection:
    """Return a connection that holds the store alone; a missing file is made. Raises StoreError."""
    try:
        if not path.exists():
            _make(path)
        elif path.stat().st_size == 0:
            raise _damaged(path, "the file is empty")
        return _connect(path)
    except (sqlite3.Error, OSError) as error:
        raise explain(path, error) from error


def _make(path: Path) -> None:
    new = path.with_name(f"{path.name}.new")
    for name in (new, Path(f"{new}-journal")):
        name.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    db = sqlite3.connect(new, isolation_level=None)
    try:
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.executescript(SCHEMA)
        meta = {"epoch": secrets.token_hex(8), "revision": 0, "compacted": 0}
        db.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    finally:
        db.close()
    for name in (new, path.parent):
        descriptor = os.open(name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        if name is new:
            os.rename(new, path)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS)
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        db.execute("BEGIN IMMEDIATE")
        _upgrade(db, path)
        db.execute("COMMIT")
        if path.stat().st_size <= CHECKED_BYTES:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise _damaged(path, str(found).splitlines()[-1])
        missing = {"epoch", "revision", "compacted"} - {row[0] for row in db.execute("SELECT name FROM meta")}
        if missing:
            raise _damaged(path, f"it has no {', '.join(sorted(missing))}")
    except BaseException:
        db.close()
        raise
    return db


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path}: a newer pycompose made this store (tables {version}, known {SCHEMA_VERSION})")
    if version < SCHEMA_VERSION:
        # Only the history had another form: watches begin anew.
        db.execute("DROP TABLE IF EXISTS log")
        db.execute(HISTORY)
        db.execute("UPDATE meta SET value = (SELECT value FROM meta WHERE name = 'revision') WHERE name = 'compacted'")
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
