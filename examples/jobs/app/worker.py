"""A worker: takes a job, counts primes with a sieve in a file on the tmpfs, stores the result; at SIGTERM it ends."""

import contextlib
import json
import mmap
import signal
import socket
import threading
import time
from pathlib import Path

import queue_names as names
import redis

me = socket.gethostname()
stopping = threading.Event()


def say(*words):
    print(*words, flush=True)


def live(queue):
    """Tell the janitor every second that this worker is there."""
    while True:
        with contextlib.suppress(redis.RedisError):
            queue.set(f"alive:{me}", "yes", ex=names.ALIVE_SECONDS)
        time.sleep(1)


def primes(below):
    """Count the primes below a number."""
    with open("/work/sieve", "w+b") as file:
        file.write(b"\1" * max(below, 2))
        file.flush()
        with mmap.mmap(file.fileno(), 0) as sieve:
            sieve[0:2] = b"\0\0"
            for number in range(2, int(below**0.5) + 1):
                if sieve[number]:
                    sieve[number * number : below : number] = bytes(len(range(number * number, below, number)))
            return sieve[:below].count(1)


signal.signal(signal.SIGTERM, lambda *_: stopping.set())
queue = names.connect()
threading.Thread(target=live, args=[names.connect()], daemon=True).start()
if count := names.give_back(queue, me):
    say("gave back", count, "of an earlier life")
Path("/work/ready").touch()
say("ready")
done = 0
while not stopping.is_set():
    try:
        text = names.take(queue, me, 1)
        if text:
            job = json.loads(text)
            say("job", job["job"], "taken")
            time.sleep(0.05)
            names.finish(queue, me, text, job | {"primes": primes(job["below"]), "by": me})
            done += 1
    except redis.ConnectionError as error:
        say("the queue does not answer:", error)
        time.sleep(0.5)
say("drained after", done, "jobs")
