"""Sensors: a reading goes over MQTT into SQLite; what the recorder misses waits in the broker, also over a crash."""

from __future__ import annotations

from checks.user import User, fetch, fetch_json, need, until

URL = "http://127.0.0.1:8084"
NAME = "sensors"
FLAGS = ("--profile", "simulation")


def publish(room: str, degrees: float) -> None:
    """Publish a reading; the broker has it when this returns."""
    fetch(f"{URL}/rooms/{room}", str(degrees).encode())


def degrees(room: str) -> list[float]:
    """Return a room's readings, in their order."""
    return [row["degrees"] for row in fetch_json(f"{URL}/rooms/{room}")]


def saved(user: User) -> int:
    """Return how often the broker has begun to write what waits."""
    return user.log("broker").count("Saving in-memory database")


def ask(user: User) -> str:
    """Publish readings, and wait for those of the simulated rooms."""
    for value in (18.5, 19.25):
        publish("attic", value)
    until("the readings are recorded", lambda: degrees("attic") == [18.5, 19.25])
    until("the simulated rooms are there", lambda: {"kitchen", "cellar"} <= {row["room"] for row in fetch_json(URL)})
    return "two readings went over MQTT into SQLite; two rooms are simulated"


def hurt(user: User) -> str:
    """Stop the recorder, publish, kill the broker: the reading waits for the recorder all the same."""
    user.pycompose("stop", "recorder")
    publish("attic", 20)
    publish("attic", 21)
    # the thermometers go on: the broker writes once more, and when it begins again, that is on the disk
    before = saved(user)
    until("the broker has written what waits", lambda: saved(user) >= before + 2)
    user.pycompose("kill", "broker")
    user.pycompose("start", "recorder")
    until("what waited is recorded", lambda: degrees("attic") == [18.5, 19.25, 20, 21])
    return "broker killed while a reading waited in it: it came all the same"


def stopped(user: User) -> str:
    """Broker and recorder have ended as they should."""
    need("terminating" in user.log("broker"), "mosquitto did not end as it should")
    need(user.log("recorder").splitlines()[-1] == "closed", "the recorder did not close its database")
    return "mosquitto: terminating; the recorder closed its database"


def kept(user: User) -> str:
    """The readings are there, and more come."""
    need(degrees("attic") == [18.5, 19.25, 20, 21], "the readings are others")
    publish("attic", 22)
    until("a new reading is recorded", lambda: degrees("attic")[-1] == 22)
    return "the readings are there, and a new one came"
