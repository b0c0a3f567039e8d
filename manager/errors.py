"""What the manager answers when it refuses something.

::

    ApiError                      code, message, and google.rpc details
    ├── InvalidError              INVALID_ARGUMENT: BadRequest with field violations
    ├── NotFoundError             NOT_FOUND: ResourceInfo
    ├── ExistsError               ALREADY_EXISTS: ResourceInfo
    ├── ConflictError             ABORTED: somebody else changed the object in between
    ├── BlockedError              FAILED_PRECONDITION: PreconditionFailure names what stands in the way
    ├── HistoryError              OUT_OF_RANGE: watch anew from the present
    └── UnreachableError          UNAVAILABLE: the node or the store does not answer
"""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]


class ApiError(Exception):
    """A refusal with its gRPC code; the message says what, where and what to do."""

    code = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, *details: Message) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def status(self) -> bytes:
        """Return the encoded google.rpc.Status for the trailer `grpc-status-details-bin`."""
        packed = []
        for detail in self.details:
            item = AnyMessage()
            item.Pack(detail)
            packed.append(item)
        encoded: bytes = status_pb2.Status(
            code=self.code.value[0], message=self.message, details=packed
        ).SerializeToString()
        return encoded


class InvalidError(ApiError):
    """Fields that are wrong: pairs of the field's path and what is wrong and what would be right."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        bad = error_details_pb2.BadRequest()
        for field, description in violations:
            bad.field_violations.add(field=field, description=description)
        super().__init__("; ".join(f"{field}: {text}" for field, text in violations), bad)


class NotFoundError(ApiError):
    """There is no such object."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        info = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=hint)
        super().__init__(f"no such {kind}: {name}" + (f" ({hint})" if hint else ""), info)


class ExistsError(ApiError):
    """The name is taken."""

    code = grpc.StatusCode.ALREADY_EXISTS

    def __init__(self, kind: str, name: str) -> None:
        info = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name)
        super().__init__(f"{kind} {name} already exists; update it, or remove it first", info)


class ConflictError(ApiError):
    """The object is not at the version that the update was made from."""

    code = grpc.StatusCode.ABORTED


class BlockedError(ApiError):
    """Something stands in the way: `subject` names it."""

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, message: str, kind: str = "IN_USE", subject: str = "") -> None:
        failure = error_details_pb2.PreconditionFailure()
        failure.violations.add(type=kind, subject=subject, description=message)
        super().__init__(message, failure)


class HistoryError(ApiError):
    """The version that a watch should start from is no longer known."""

    code = grpc.StatusCode.OUT_OF_RANGE


class UnreachableError(ApiError):
    """The node or the store does not answer."""

    code = grpc.StatusCode.UNAVAILABLE
