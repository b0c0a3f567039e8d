"""How clients hear of the worker's own errors: each kind has its status, and the details that belong to it."""

from __future__ import annotations

import grpc

from pycompose.proto.refusal import Refusal, by_code
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.copying.files import FilesError
from pycompose.worker.images import ImageError, errors
from pycompose.worker.runtime.errors import NoSuchContainer, RuntimeFault
from pycompose.worker.volumes import VolumeError

Status = grpc.StatusCode
#: Kind of error -> (status, what it is about, the request's field); the first that fits.
KINDS: tuple[tuple[type[Exception], grpc.StatusCode, str, str], ...] = (
    (NoSuchContainer, Status.NOT_FOUND, "container", "task_id"),
    (RuntimeFault, Status.FAILED_PRECONDITION, "container", "task_id"),
    (SpecError, Status.INVALID_ARGUMENT, "container", "signal"),
    (VolumeError, Status.FAILED_PRECONDITION, "volume", "volume"),
    (errors.ImageNotFound, Status.NOT_FOUND, "image", "image"),
    (errors.ImageInUse, Status.FAILED_PRECONDITION, "image", "image"),
    (errors.DiskFull, Status.RESOURCE_EXHAUSTED, "disk", "image"),
    (errors.CutOff, Status.UNAVAILABLE, "image", "digest"),
    (errors.NotInRegistry, Status.NOT_FOUND, "image", "reference"),
    (errors.Denied, Status.UNAUTHENTICATED, "registry", "credentials"),
    (errors.Unreachable, Status.UNAVAILABLE, "registry", "reference"),
    (errors.Untrusted, Status.PERMISSION_DENIED, "registry", "reference"),
    (errors.BadAnswer, Status.DATA_LOSS, "registry", "reference"),
    (errors.WrongPlatform, Status.FAILED_PRECONDITION, "image", "platform"),
    (ImageError, Status.INVALID_ARGUMENT, "image", "reference"),
)


def translate(error: Exception) -> Refusal | None:
    """Return the refusal that an error means; None: it is a fault."""
    if isinstance(error, FilesError):
        return by_code(grpc.StatusCode[error.code], str(error), "path", "", "path")
    for kind, code, subject, field in KINDS:
        if isinstance(error, kind):
            return by_code(code, str(error), subject, "", field)
    return None
