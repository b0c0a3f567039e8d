"""A project's watch, kept open while the node comes and goes: for every command that waits."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.compose.cli.display import Display
from pycompose.compose.client import Client, ClientError, NodeError
from pycompose.compose.client.streams import PATIENCE, Back, Ended, Lost, Streams, watch
from pycompose.compose.plan.observed import Observed
from pycompose.proto.v1 import access_pb2, control_pb2


def follow_project(client: Client, streams: Streams, project: str) -> None:
    """Feed `streams` with "watch" items of a project."""
    streams.keep("watch", lambda last: watch(client, project))


def read_log(
    client: Client,
    streams: Streams,
    name: str,
    task_id: str,
    since: Timestamp | None,
    *,
    until: Timestamp | None = None,
    until_exit: bool = False,
) -> None:
    """Feed `streams` with a container's new output; after the node came back, from where it was.

    Args:
        client: the node.
        streams: gets ReadLogsResponse items.
        name: of the items.
        task_id: which container.
        since: nothing before; None: from its first byte.
        until: end then.
        until_exit: end with the container's run.
    """

    def opening(last: access_pb2.ReadLogsResponse | None) -> Any:
        request = access_pb2.ReadLogsRequest(task_ids=[task_id], follow=True, until=until, until_exit=until_exit)
        if last is not None and last.entries:
            request.since.FromNanoseconds(last.entries[-1].time.ToNanoseconds() + 1)
        elif since is not None:
            request.since.CopyFrom(since)
        return client.access.ReadLogs(request)

    streams.keep(name, opening)


def see(item: object, observed: Observed, display: Display, goes_on: str) -> None:
    """Take in one "watch" item.

    Args:
        item: an answer, or what became of the stream.
        observed: is brought up to date.
        display: tells when the node went away and came back.
        goes_on: what goes on without this command: "the containers go on starting".

    Raises:
        ClientError: the stream ended for good.
    """
    if isinstance(item, control_pb2.WatchResponse):
        observed.apply(item)
    elif isinstance(item, Lost):
        display.note("the node went away; waiting for it to come back …")
    elif isinstance(item, Back):
        observed.forget()
        display.note("the node is back")
    elif isinstance(item, Ended):
        if isinstance(item.error, NodeError):
            raise NodeError(
                f"the node went away and did not come back in {PATIENCE:.0f} s; {goes_on}. "
                "pycompose node start starts it again; then run this command again"
            )
        raise item.error or ClientError(f"the node ended the connection; {goes_on}. Run the command again")
