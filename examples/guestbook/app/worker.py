"""Worker: takes entries from the queue and stores them."""

import database
import redis

queue = redis.Redis("cache")
store = database.connect()
print("worker is ready", flush=True)
while True:
    _, text = queue.brpop("entries")
    with store.cursor() as cursor:
        cursor.execute("INSERT INTO entries (text) VALUES (%s)", (text.decode(),))
    print("stored", text.decode(), flush=True)
