"""What is where in Redis, and how a job moves. Each move is one transaction, so that a job is always in one place.

jobs              list of jobs that wait, the next one at its right end
taken:WORKER      list of jobs that a worker has
alive:WORKER      ends by itself when the worker says nothing for some seconds
results           hash: job's number -> result, as JSON
"""

import json
import os

import redis

JOBS, RESULTS, NUMBER = "jobs", "results", "number"
ALIVE_SECONDS = 5


def taken(worker):
    """Return the name of the list of what a worker has."""
    return f"taken:{worker}"


def connect():
    """Return a connection."""
    return redis.Redis.from_url(os.environ["QUEUE"], decode_responses=True, health_check_interval=10)


def put(queue, limits):
    """Queue a job for each number: count the primes below it. Returns the jobs' numbers."""
    last = queue.incrby(NUMBER, len(limits))
    numbers = list(range(last - len(limits) + 1, last + 1))
    jobs = [{"job": number, "below": limit} for number, limit in zip(numbers, limits, strict=True)]
    queue.lpush(JOBS, *map(json.dumps, jobs))
    return numbers


def take(queue, worker, seconds):
    """Return the next job, as text, None when there was none for some seconds."""
    return queue.blmove(JOBS, taken(worker), seconds, src="RIGHT", dest="LEFT")


def finish(queue, worker, text, result):
    """Store a job's result; the worker has it no more."""
    with queue.pipeline() as together:
        together.hset(RESULTS, result["job"], json.dumps(result))
        together.lrem(taken(worker), 1, text)
        together.execute()


def give_back(queue, worker):
    """Let others do what a worker has; returns how many jobs these were."""
    count = 0
    while queue.lmove(taken(worker), JOBS, "LEFT", "RIGHT"):
        count += 1
    return count
