"""A simulated thermometer: a reading a second, which swings around the mean."""

import datetime
import json
import math
import os
import time

import broker

room, mean = os.environ["ROOM"], float(os.environ["MEAN"])
client = broker.client(f"thermometer-{room}", clean=True)
client.loop_start()
for second in range(10**9):
    degrees = round(mean + 2 * math.sin(second / 60), 2)
    reading = {"degrees": degrees, "at": datetime.datetime.now(datetime.UTC).isoformat()}
    client.publish(f"rooms/{room}", json.dumps(reading), qos=1)
    time.sleep(1)
