"""What the client says when a request fails.

::

    ClientError          anything that stops a request; str() is the message
    ├── NodeError        the node is not there, or did not start
    │   ├── NotRunningError  nothing answers where it should, and it was not to be started
    │   └── LostError    the connection could not be made, or broke
    ├── AddressError     what was named is no address (a wrong command line)
    ├── DryRunError      a dry run came to a call that changes something
    └── ApiError         the manager refused: its message, its code, the fields that it names
        └── NotThereError    the object named does not exist
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc


class ClientError(Exception):
    """A request failed; `status` is the exit status that fits."""

    status = 1


class AddressError(ClientError):
    """What -H or PYCOMPOSE_HOST names is no address of a node."""

    status = 2


class NodeError(ClientError):
    """No node answers."""


class LostError(NodeError):
    """There is no connection, or it broke. `sent`: whether the request may have been carried out all the same."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class DryRunError(ClientError):
    """A dry run ends here: the next call would change something."""

    status = 0

    def __init__(self, call: str) -> None:
        words = "".join(f" {one.lower()}" if one.isupper() else one for one in call).strip()
        super().__init__(f"dry run: it would {words} now; nothing was changed")


class NotRunningError(NodeError):
    """Nothing answers at this machine's socket."""


class ApiError(ClientError):
    """The manager or the worker refused a request.

    `code` is gRPC's name ("INVALID_ARGUMENT"); `violations` are (field, text) pairs of google.rpc.BadRequest.
    """

    def __init__(self, message: str, code: str, violations: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.violations = tuple(violations)


class NotThereError(ApiError):
    """The object named does not exist."""


def decode(error: grpc.RpcError, host: str, problem: Callable[[], str] = lambda: "") -> ClientError:
    """Turn grpc's error into ours; google.rpc details are read where they are.

    Args:
        error: as raised by a stub.
        host: where the request went, for the message.
        problem: looks why `host` cannot be reached; "" when it can.
    """
    code = error.code().name if hasattr(error, "code") else "UNKNOWN"
    text = (error.details() or "") if hasattr(error, "details") else str(error)
    if code == "UNAVAILABLE" and text.startswith("the worker does not answer"):
        return NodeError(text)
    if code == "UNAVAILABLE" and not _details(error) and _no_answer(text):
        sent = "failed to connect" not in text
        why = problem()
        if why:
            return LostError(f"cannot reach {host}: {why}", sent=sent)
        if _listens(host):
            return LostError(
                f"what listens at {host} does not answer: the node hangs, or it is none; see pycompose node logs, and "
                "start it anew: pycompose node stop; pycompose node start",
                sent=sent,
            )
        return LostError(
            f"no node answers at {host}; start one with pycompose up or pycompose node start, "
            "or name another with -H or PYCOMPOSE_HOST",
            sent=sent,
        )
    if code == "DEADLINE_EXCEEDED":
        return ApiError(f"the node at {host} did not answer in time; pycompose node logs may say why", code)
    if code == "UNIMPLEMENTED":
        return ApiError(f"the node at {host} cannot do this: {text or 'it is of an older version'}", code)
    violations = _violations(error)
    kind = NotThereError if code == "NOT_FOUND" else ApiError
    return kind(text or f"the node answered {code} without a reason", code, violations)


def _no_answer(text: str) -> bool:
    """Return whether a text is gRPC's own about a connection, and not a server's."""
    words = (
        "failed to connect",
        "Connection refused",
        "No such file",
        "Socket closed",
        "Connection reset",
        "Broken pipe",
        "lookup failed",
        "Timeout occurred",
        "Cancelling all calls",
        "andshake",
        "ping timeout",
        "keepalive",
        "GOAWAY",
        "recvmsg",
        "sendmsg",
    )
    return any(word in text for word in words)


def _listens(host: str) -> bool:
    """Return whether something accepts connections at a unix socket."""
    from pycompose.compose.client.node import answers

    try:
        return host.startswith("unix://") and answers(host.removeprefix("unix://"))
    except PermissionError:
        return True


def _details(error: grpc.RpcError) -> bytes | None:
    """Return the encoded google.rpc.Status that a server of ours adds to a refusal; None: the refusal is not its."""
    metadata: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    return next((value for key, value in metadata or () if key == "grpc-status-details-bin"), None)


def _violations(error: grpc.RpcError) -> list[tuple[str, str]]:
    encoded = _details(error)
    if not encoded:
        return []
    from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

    found = []
    for detail in status_pb2.Status.FromString(encoded).details:
        bad = error_details_pb2.BadRequest()
        failure = error_details_pb2.PreconditionFailure()
        if detail.Unpack(bad):
            found += [(one.field, one.description) for one in bad.field_violations]
        elif detail.Unpack(failure):
            # a field of the request is to blame as well where the subject is one ("port taken")
            fields = [one for one in failure.violations if one.subject.startswith("spec.")]
            found += [(one.subject, one.description or error.details()) for one in fields]
    return found
