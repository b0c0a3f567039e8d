"""The guestbook's table in PostgreSQL."""

import time
from pathlib import Path

import psycopg2


def connect():
    """Return a connection with the table made; waits for the database for a while."""
    password = Path("/run/secrets/db_password").read_text().strip()
    for attempt in range(30):
        try:
            link = psycopg2.connect(host="db", user="guestbook", password=password, dbname="postgres")
            break
        except psycopg2.OperationalError:
            if attempt == 29:
                raise
            time.sleep(1)
    link.autocommit = True
    with link.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")
        cursor.execute("CREATE TABLE IF NOT EXISTS entries (id serial PRIMARY KEY, text text NOT NULL)")
        cursor.execute("SELECT pg_advisory_unlock(1)")
    return link
