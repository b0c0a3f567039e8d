"""A connection to the database; the password comes from the file that DATABASE_PASSWORD_FILE names."""

import os
from pathlib import Path

import psycopg2


def connect():
    """Return a new connection."""
    password = Path(os.environ["DATABASE_PASSWORD_FILE"]).read_text().strip()
    return psycopg2.connect(os.environ["DATABASE"], password=password, connect_timeout=5)
