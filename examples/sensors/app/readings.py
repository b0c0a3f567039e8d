"""The table of readings in SQLite, which the recorder writes and the board reads."""

import sqlite3


def connect():
    """Return a connection, with the table made."""
    link = sqlite3.connect("/data/readings.db", timeout=10, isolation_level=None)
    link.execute("PRAGMA journal_mode=WAL")
    link.execute("CREATE TABLE IF NOT EXISTS readings (id INTEGER PRIMARY KEY, room TEXT, degrees REAL, at TEXT)")
    return link
