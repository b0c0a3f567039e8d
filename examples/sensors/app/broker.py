"""A client of the broker, with what the environment says about it."""

import os
from pathlib import Path

from paho.mqtt.client import Client


def client(name, *, clean):
    """Return a client; with `clean` false the broker keeps what it misses, under its name."""
    found = Client(name, clean_session=clean)
    found.username_pw_set(os.environ["BROKER_USER"], Path(os.environ["BROKER_PASSWORD_FILE"]).read_text().strip())
    found.reconnect_delay_set(1, 2)
    found.connect_async(os.environ["BROKER"], keepalive=10)
    return found
