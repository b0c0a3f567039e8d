"""Tickets: what is opened over nginx and Flask is in PostgreSQL, also after a crash and after down and up."""

from __future__ import annotations

from urllib.parse import urlencode

from checks.user import User, fetch, fetch_json, need, until

URL = "http://127.0.0.1:8081"
NAME = "tickets"
TITLE = "the printer is on fire"
CLEAN = "database system is shut down"


def opened(title: str) -> str:
    """Open a ticket and return its address."""
    number = fetch_json(f"{URL}/tickets", urlencode({"title": title}).encode())["id"]
    return f"{URL}/tickets/{number}"


def ask(user: User) -> str:
    """Open two tickets, close one."""
    first, second = opened(TITLE), opened("the printer is wet")
    fetch(f"{second}/close", b"")
    need(fetch_json(first) == {"id": 1, "title": TITLE, "closed": False}, "the first ticket is another")
    need(fetch_json(second)["closed"], "the second ticket is not closed")
    size = user.inside("db", "df", "-k", "--output=size", "/dev/shm").split()[-1]
    need(size == str(128 << 10), f"/dev/shm of db has {size} KB")
    return "a ticket opened and a ticket closed came back from PostgreSQL"


def hurt(user: User) -> str:
    """Kill the database."""
    user.pycompose("kill", "db")
    until("tickets can be opened", lambda: opened("after the crash"))
    need(fetch_json(f"{URL}/tickets/1")["title"] == TITLE, "the first ticket is gone")
    until("PostgreSQL says that it recovered", lambda: "automatic recovery in progress" in user.log("db"))
    return "db killed: started again, recovered from its log, no ticket lost"


def stopped(user: User) -> str:
    """PostgreSQL has ended as it should."""
    need(user.log("db").splitlines()[-1].endswith(CLEAN), f"the last line of db is not {CLEAN!r}")
    return f"PostgreSQL: {CLEAN}"


def kept(user: User) -> str:
    """The tickets are there, the tables were made once, and nothing had to be recovered."""
    need(fetch_json(f"{URL}/tickets/1")["title"] == TITLE, "the first ticket is gone")
    need("applied" not in user.log("migrate"), "the tables were made anew")
    log = user.log("db")
    need("automatic recovery" not in log and "was interrupted" not in log, "PostgreSQL had to recover")
    return "the tickets are there; migrate had nothing to do, PostgreSQL nothing to recover"
