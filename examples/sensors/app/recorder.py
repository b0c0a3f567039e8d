"""The recorder: stores each reading. A reading is acknowledged when it is stored, so the broker keeps it until then."""

import json
import signal
from pathlib import Path

import broker
import readings

store = readings.connect()
connected = Path("/tmp/connected")


def on_connect(client, _data, _flags, code):
    print("connected" if code == 0 else f"the broker refuses: {code}", flush=True)
    if code == 0:
        client.subscribe("rooms/+", qos=1)
        connected.touch()


def on_disconnect(_client, _data, code):
    print("disconnected", code, flush=True)
    connected.unlink(missing_ok=True)


def on_message(_client, _data, message):
    try:
        reading = json.loads(message.payload)
        row = message.topic.partition("/")[2], float(reading["degrees"]), reading["at"]
    except (ValueError, KeyError, TypeError) as error:
        print("no reading:", message.payload, error, flush=True)
        return
    store.execute("INSERT INTO readings (room, degrees, at) VALUES (?, ?, ?)", row)


def stop(*_):
    client.disconnect()


client = broker.client("recorder", clean=False)
client.on_connect, client.on_disconnect, client.on_message = on_connect, on_disconnect, on_message
signal.signal(signal.SIGTERM, stop)
client.loop_forever(retry_first_connection=True)
store.close()
print("closed", flush=True)
