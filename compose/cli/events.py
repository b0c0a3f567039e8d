"""`events`: what happens to a project's containers, as it happens."""

from __future__ import annotations

import json
import time
from datetime import datetime

import click

from pycompose.compose.cli.flags import command
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.logprint import stamp, time_of
from pycompose.compose.cli.settings import settings
from pycompose.compose.client.streams import Ended, Streams
from pycompose.compose.labels import ONEOFF
from pycompose.proto.v1 import access_pb2

_OURS = ("com.docker.compose.", "pycompose.")


@command()
@click.argument("services", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@click.option("--since", metavar="TIME", help="Begin with what happened since.")
@click.option("--until", metavar="TIME", help="End then.")
def events(services: tuple[str, ...], as_json: bool, since: str | None, until: str | None) -> None:
    """Print what happens to containers, as it happens.

    \b
    pycompose events                              until interrupted
    pycompose events --since 10m --until 0s web   what was
    """
    chosen = settings()
    request = access_pb2.WatchEventsRequest(project=chosen.name())
    now = time.time()
    for flag, text, field in (("--since", since, request.since), ("--until", until, request.until)):
        if text:
            field.FromNanoseconds(time_of(flag, text, now))
    with chosen.client(start=False) as client, interrupts_into(Streams()) as streams:
        streams.add("events", client.access.WatchEvents(request))
        while True:
            item = streams.get(None)
            if item is None or item[0] == "interrupt":
                return
            if isinstance(item[1], Ended):
                if item[1].error is not None:
                    raise item[1].error
                return
            for event in item[1].events:
                if event.attributes.get(ONEOFF) != "True" and (not services or event.service_name in services):
                    print(as_line(event) if not as_json else as_object(event), flush=True)


def as_object(event: access_pb2.ContainerEvent) -> str:
    """Return an event as Docker Compose's --json writes it."""
    return json.dumps(
        {
            "action": event.action,
            "attributes": _attributes(event),
            "id": event.task_id,
            "service": event.service_name,
            "time": stamp(event.time.ToNanoseconds()),
            "type": "container",
        }
    )


def as_line(event: access_pb2.ContainerEvent) -> str:
    """Return an event as Docker Compose writes it, in local time."""
    when = datetime.fromtimestamp(event.time.ToNanoseconds() / 1e9).strftime("%Y-%m-%d %H:%M:%S.%f")
    details = ", ".join(f"{key}={value}" for key, value in sorted(_attributes(event).items()))
    return f"{when} container {event.action} {event.task_id} ({details})"


def _attributes(event: access_pb2.ContainerEvent) -> dict[str, str]:
    return {key: value for key, value in event.attributes.items() if not key.startswith(_OURS)}
