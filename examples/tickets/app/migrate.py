"""Bring the tables up to date: run each file of migrations/ that was not run yet, in order, all or nothing."""

from pathlib import Path

import database

with database.connect() as link, link.cursor() as cursor:
    cursor.execute("SELECT pg_advisory_xact_lock(1)")
    cursor.execute("CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, done timestamptz DEFAULT now())")
    cursor.execute("SELECT name FROM migrations")
    done = {row[0] for row in cursor.fetchall()}
    for path in sorted(Path(__file__).with_name("migrations").glob("*.sql")):
        if path.name not in done:
            cursor.execute(path.read_text())
            cursor.execute("INSERT INTO migrations (name) VALUES (%s)", (path.name,))
            print("applied", path.name)
print("the tables are up to date")
