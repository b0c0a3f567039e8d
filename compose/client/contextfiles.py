"""A context as one file: a tar archive of context.json and the three PEM files, for `context export` and `import`."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

from pycompose.compose.client.contexts import KEY, PROOFS, Context, ContextError, check_addresses, read, written

MOST_BYTES = 1 << 20
JSON = "context.json"


def pack(context: Context, proofs: Mapping[str, bytes]) -> bytes:
    """Return the file of a context with its PEM files by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in {JSON: written(context), **proofs}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600 if name == KEY else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def unpack(name: str, data: bytes) -> tuple[Context, dict[str, bytes]]:
    """Return the context that a file has, under a new name, and its PEM files.

    Nothing is unpacked: the few files that belong into it are read, by their names.

    Raises:
        ContextError: it is no such file.
    """
    if len(data) > MOST_BYTES:
        raise ContextError(f"it is longer than {MOST_BYTES >> 20} MB: this is no file of pycompose context export")
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for entry in archive:
                part = archive.extractfile(entry) if entry.isreg() else None
                if entry.name not in (JSON, *PROOFS) or entry.name in found or part is None:
                    raise ContextError(f'"{entry.name}" does not belong into a context')
                found[entry.name] = part.read()
    except (tarfile.TarError, EOFError, ValueError, OSError):
        raise ContextError("this is no file of pycompose context export") from None
    if JSON not in found:
        raise ContextError("this is no file of pycompose context export")
    context = read(name, found.pop(JSON), None)
    if found and set(found) != set(PROOFS):
        raise ContextError(f"of certificate, key and CA it lacks {', '.join(sorted(set(PROOFS) - set(found)))}")
    if not context.addresses:
        raise ContextError("it names no manager")
    check_addresses(context.addresses, proves=bool(found))
    return context, found
