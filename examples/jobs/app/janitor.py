"""The janitor: gives jobs of workers that are gone to the others."""

import time

import queue_names as names
import redis

queue = names.connect()
while True:
    try:
        for key in queue.scan_iter("taken:*"):
            worker = key.partition(":")[2]
            if not queue.exists(f"alive:{worker}") and (count := names.give_back(queue, worker)):
                print("gave back", count, "of", worker, flush=True)
    except redis.ConnectionError as error:
        print("the queue does not answer:", error, flush=True)
    time.sleep(1)
