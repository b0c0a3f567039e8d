"""Jobs: each is done once, whatever happens to the workers; the queue is in Redis."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from checks.user import User, fetch_json, need, until

URL = "http://127.0.0.1:8083"
NAME = "jobs"
BELOW = [10, 100, 1000, 10_000, 100_000]
#: How many primes there are below those numbers (OEIS A006880).
PRIMES = {10: 4, 100: 25, 1000: 168, 10_000: 1229, 100_000: 9592}


def put(count: int) -> set[int]:
    """Queue jobs, as many for each number; returns their numbers."""
    return set(fetch_json(f"{URL}/jobs", json.dumps({"below": BELOW * count}).encode()))


def results() -> dict[int, dict[str, Any]]:
    """Return the results by the jobs' numbers."""
    return {item["job"]: item for item in fetch_json(f"{URL}/results")}


def all_done(numbers: set[int]) -> None:
    """Wait for jobs and check their results."""
    until(f"{len(numbers)} jobs are done", lambda: numbers <= set(results()), 120)
    wrong = [item for item in results().values() if item["primes"] != PRIMES[item["below"]]]
    need(not wrong, f"wrong results: {wrong}")


def taken(user: User) -> list[int]:
    """Return the numbers of the jobs that were taken, as often as they were, from the workers' logs."""
    words = [line.split() for line in user.log("worker").splitlines()]
    return [int(line[1]) for line in words if line[:1] == ["job"]]


def ask(user: User) -> str:
    """Queue jobs and wait for them."""
    numbers = put(6)
    all_done(numbers)
    by = Counter(item["by"] for item in results().values())
    need(sorted(taken(user)) == sorted(numbers), "a job was taken more than once, or not at all")
    mode = user.inside("worker", "stat", "-c", "%a %U", "/work").strip()
    need(mode == "700 www-data", f"the tmpfs /work is {mode}")
    return f"{len(numbers)} jobs done right, once each, by {len(by)} workers"


def hurt(user: User) -> str:
    """Kill all workers while they work; what they had is done by those that come after them."""
    numbers = put(12)
    until("a worker has a job", lambda: fetch_json(f"{URL}/jobs")["taken"])
    user.pycompose("kill", "worker")
    all_done(numbers)
    return f"workers killed at work: started again, {len(numbers)} jobs done, none lost"


def stopped(user: User) -> str:
    """Workers had to stop at work: each has finished what it had, and the queue is on the disk."""
    log = user.log("worker")
    need(log.count("drained after") == 3, f"not all workers have drained:\n{log}")
    need("Redis is now ready to exit, bye bye" in user.log("queue"), "Redis did not end as it should")
    return "the workers finished what they had (SIGTERM); Redis: bye bye"


def before_stop(user: User) -> None:
    """Give the workers something to be interrupted in."""
    put(20)


def kept(user: User) -> str:
    """What had not been done is done now."""
    numbers = set(range(1, 5 * (6 + 12 + 20) + 1))
    all_done(numbers)
    need(len(set(taken(user))) == len(taken(user)), "a job that was done before the stop was done again")
    return f"what waited was in the queue: all {len(numbers)} jobs are done"
