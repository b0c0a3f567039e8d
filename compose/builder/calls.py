"""A build as a call: what the node asks for is sent, what it tells is handed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from queue import SimpleQueue
from typing import Any

from pycompose.compose.builder.contexts import Folder
from pycompose.compose.client import Client
from pycompose.proto.v1 import build_pb2


class BuildCall:
    """A build that goes on; iterate it for steps, warnings, and the result at last. `cancel` ends it.

    Args:
        client: the node.
        start: what to build.
        folders: of this machine, by the context's name.
    """

    def __init__(self, client: Client, start: build_pb2.BuildStart, folders: Mapping[str, Folder]) -> None:
        self._folders = folders
        self._wanted: SimpleQueue[build_pb2.BuildWanted | None] = SimpleQueue()
        self._problem: OSError | None = None
        self._call: Any = client.builds.Build(self._requests(start))

    def __iter__(self) -> Iterator[build_pb2.BuildResponse]:
        """Yield what the node tells. Raises ClientError, OSError: a file cannot be read."""
        try:
            for answer in self._call:
                if answer.HasField("wanted"):
                    self._wanted.put(answer.wanted)
                else:
                    yield answer
        except Exception:
            if self._problem is not None:
                raise self._problem from None
            raise
        finally:
            self._wanted.put(None)

    def cancel(self) -> None:
        """End it, and the work on the node."""
        self._wanted.put(None)
        self._call.cancel()

    def _requests(self, start: build_pb2.BuildStart) -> Iterator[build_pb2.BuildRequest]:
        yield build_pb2.BuildRequest(start=start)
        while (wanted := self._wanted.get()) is not None:
            name = wanted.context
            try:
                for piece in self._folders[name].tar(wanted.paths):
                    yield build_pb2.BuildRequest(data=build_pb2.BuildContextData(context=name, data=piece))
            except OSError as error:
                self._problem = error
                self._call.cancel()
                return
            yield build_pb2.BuildRequest(data=build_pb2.BuildContextData(context=name, end=True))
