"""How a server of this API says no: one exception tree, and the google.rpc.Status that each becomes.

::

    Refusal               code, message, and google.rpc details
    ├── InvalidError      INVALID_ARGUMENT: BadRequest with field violations
    ├── NotFoundError     NOT_FOUND: ResourceInfo
    ├── ExistsError       ALREADY_EXISTS: ResourceInfo
    ├── LostUpdateError   ABORTED: somebody else changed the object in between; ResourceInfo, ErrorInfo with versions
    ├── BlockedError      FAILED_PRECONDITION: PreconditionFailure names what stands in the way
    ├── HistoryError      OUT_OF_RANGE: ErrorInfo COMPACTED; watch anew from the present
    ├── ExhaustedError    RESOURCE_EXHAUSTED: QuotaFailure names the limit
    ├── NotYetError       UNIMPLEMENTED: the API has it, this program does not
    ├── ForbiddenError    PERMISSION_DENIED: the caller's certificate does not allow it
    ├── UnreachableError  UNAVAILABLE: the node or the store does not answer
    ├── OtherError        any other status, as ErrorInfo's reason
    └── InternalError     INTERNAL: an id that the log has too, and nothing else

The details travel in the trailer grpc-status-details-bin (https://github.com/grpc/proposal/blob/master/L44-python-rich-status.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

DOMAIN = "pycompose.v1"
TRAILER = "grpc-status-details-bin"


class Refusal(Exception):
    """A refusal with its gRPC code; the message says what, where and what to do."""

    code = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, *details: Message) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def status(self) -> bytes:
        """Return the encoded google.rpc.Status."""
        packed = []
        for detail in self.details:
            item = AnyMessage()
            item.Pack(detail)
            packed.append(item)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        encoded: bytes = status.SerializeToString()
        return encoded

    def trailer(self) -> tuple[tuple[str, bytes], ...]:
        """Return the trailing metadata that carries the details."""
        return ((TRAILER, self.status()),)


def _info(reason: str, metadata: Mapping[str, str]) -> Message:
    info: Message = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    return info


def _resource(kind: str, name: str, description: str = "") -> Message:
    info: Message = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=description)
    return info


class InvalidError(Refusal):
    """Fields that are wrong: pairs of the field's path, and what is wrong and what would be right.

    `message`: what people read, where the fields' names would not help them.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, violations: Sequence[tuple[str, str]], message: str = "") -> None:
        bad = error_details_pb2.BadRequest()
        for field, description in violations:
            bad.field_violations.add(field=field, description=description)
        super().__init__(message or "; ".join(f"{field}: {text}" for field, text in violations), bad)


class NotFoundError(Refusal):
    """There is no such object. `hint`: what to do; `message`: in place of the usual sentence."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, kind: str, name: str, hint: str = "", message: str = "") -> None:
        usual = f"no such {kind}: {name}" + (f" ({hint})" if hint else "")
        super().__init__(message or usual, _resource(kind, name, hint or message))


class ExistsError(Refusal):
    """The name is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS

    def __init__(self, kind: str, name: str) -> None:
        hint = "update it, or remove it first"
        super().__init__(f"{kind} {name} already exists; {hint}", _resource(kind, name, hint))


class ForbiddenError(Refusal):
    """The caller may not do this. `reason`: a word for programs, such as the caller's role."""

    code = grpc.StatusCode.PERMISSION_DENIED

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, _info("FORBIDDEN", {"reason": reason}))


def removed(node_id: str) -> ForbiddenError:
    """Return what a node hears that is of the cluster no longer."""
    return ForbiddenError(
        f"node {node_id} was removed from the cluster; leave it on that machine (pycompose node leave), and join again",
        "REMOVED",
    )


def says_removed(error: grpc.aio.AioRpcError) -> bool:
    """Whether a call failed because the node is of the cluster no longer."""
    if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
        return False
    info = error_details_pb2.ErrorInfo()
    for name, value in error.trailing_metadata() or ():
        for one in status_pb2.Status.FromString(value).details if name == TRAILER else ():
            if one.Unpack(info) and info.metadata.get("reason") == "REMOVED":
                return True
    return False


class LostUpdateError(Refusal):
    """The object is at version `found`, the update was made from `expected`."""

    code = grpc.StatusCode.ABORTED

    def __init__(self, kind: str, name: str, found: str, expected: str) -> None:
        message = f"{kind} {name} was changed in between: it is at version {found}, the update was made from {expected}"
        hint = "read it and try again"
        versions = _info("LOST_UPDATE", {"found": found, "expected": expected})
        super().__init__(f"{message}; {hint}", _resource(kind, name, hint), versions)


class BlockedError(Refusal):
    """Something stands in the way. `kind`: a word for programs, such as IN_USE; `subject`: what it is."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, message: str, kind: str = "IN_USE", subject: str = "") -> None:
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(type=kind, subject=subject, description=message)
        super().__init__(message, failure)


class HistoryError(Refusal):
    """The version that a watch should start from is no longer known."""

    code = grpc.StatusCode.OUT_OF_RANGE

    def __init__(self, message: str, oldest: int = 0) -> None:
        metadata = {"oldest": str(oldest)} if oldest else {}
        super().__init__(f"{message}; watch anew from the present", _info("COMPACTED", metadata))


class ExhaustedError(Refusal):
    """A limit is reached. `subject`: what is limited."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, subject: str) -> None:
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(subject=subject, description=message)
        super().__init__(message, failure)


class NotYetError(Refusal):
    """The API has it, this program does not; the message names another way."""

    code = grpc.StatusCode.UNIMPLEMENTED


class UnreachableError(Refusal):
    """The node or the store does not answer."""

    code = grpc.StatusCode.UNAVAILABLE


class OtherError(Refusal):
    """Any other status, with its name as reason."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        self.code = code
        super().__init__(message, _info(code.name, {}))


def by_code(code: grpc.StatusCode, message: str, kind: str, subject: str, field: str) -> Refusal:
    """Return the refusal with a status and a sentence, and the details that belong to it.

    Args:
        code: the status.
        message: the sentence.
        kind, subject: the type and name of what the call was about.
        field: the field of the request that says so.
    """
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidError([(field, message)], message)
    if code is grpc.StatusCode.NOT_FOUND:
        return NotFoundError(kind, subject, message=message)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return BlockedError(message, "STATE", subject)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ExhaustedError(message, subject)
    return OtherError(code, message)


class InternalError(Refusal):
    """A fault of ours. `identity` is in the log with the reason; clients hear nothing of it."""

    code = grpc.StatusCode.INTERNAL

    def __init__(self, identity: str, where: str) -> None:
        message = f"internal error {identity}; {where} has the reason beside this number"
        super().__init__(message, _info("INTERNAL", {"id": identity}))
