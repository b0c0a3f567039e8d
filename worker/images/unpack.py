"""``python -m pycompose.worker.images.unpack JOB``: a layer's blob from standard input into a directory.

The process runs in the directory of all layers. It mounts the layers below and the new one as an overlay in a mount
namespace of its own, makes that its root (pivot_root(2)) and forgets the old one, before it reads the first byte: no
path in the tar, however odd, leads out, a link of a lower layer means what it means in a container, and the kernel
itself writes whiteouts as overlayfs keeps them (overlayfs.rst). Everything is imported before. It decompresses and
takes the digest as well, so that the daemon never holds a layer's bytes.

JOB is JSON: `lower`: names of the layers below, topmost first; `home`: a directory with `fs` (the new layer) and, with
`lower`, `work` and `root`, empty; `limit`: bytes that may come out. Standard output is one line of JSON: `diff_id`,
`bytes` and `entries`, or `error` and its `kind`: refused, full or failed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

from pycompose.worker.images import compression, limits, rootmount
from pycompose.worker.images.changes import Changes, DiskFull, Refused
from pycompose.worker.images.tarstream import TarError, TarStream
from pycompose.worker.runtime import owning

#: Headers and padding of the tar, beside its files.
SLACK = 64 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
#: What is the machine's fault; every other error comes of what the layer holds.
_OURS = (errno.EIO, errno.EROFS, errno.EMFILE, errno.ENOMEM, errno.ENOSYS)


class Digested:
    """Counts and digests what passes through."""

    def __init__(self, read: Callable[[], bytes], limit: int) -> None:
        self._read, self._limit = read, limit
        self._checksum, self._bytes = hashlib.sha256(), 0

    def read(self) -> bytes:
        """Return the next bytes. Raises Refused beyond the limit."""
        piece = self._read()
        self._checksum.update(piece)
        self._bytes += len(piece)
        if self._bytes > self._limit + SLACK:
            raise Refused(f"it unpacks to more than {self._limit:,} bytes, too much for its size")
        return piece

    def finish(self) -> str:
        """Read what is left; return the digest of everything."""
        while self.read():
            pass
        return "sha256:" + self._checksum.hexdigest()


def unpack(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job; returns the answer."""
    head = os.pread(0, 8, 0)
    blob = open(0, "rb", buffering=0)  # noqa: SIM115
    source = Digested(compression.reader(blob, compression.kind_of(head)), job["limit"])
    devices = owning.machines_root()
    rootmount.enter(job["home"], job["lower"])
    changes = Changes(job["limit"], layered=bool(job["lower"]), devices=devices)
    stream = TarStream(source.read, limits.HEADER_BYTES)
    for entry in stream:
        changes.apply(entry, stream.data)
    changes.finish()
    return {"diff_id": source.finish(), "bytes": changes.bytes, "entries": changes.entries}


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Do the job; whatever goes wrong is an answer too: nothing prints a traceback in the layer's root."""
    try:
        return unpack(job)
    except (Refused, TarError, compression.CompressionError) as error:
        return {"kind": "refused", "error": str(error)}
    except DiskFull as error:
        return {"kind": "full", "error": str(error)}
    except RecursionError:
        return {"kind": "refused", "error": "its directories are nested too deep"}
    except MemoryError:
        return {"kind": "refused", "error": "it takes too much memory to unpack"}
    except OSError as error:
        kind = "full" if error.errno in _FULL else "failed" if error.errno in _OURS else "refused"
        where = os.fsdecode(error.filename or b"")
        return {"kind": kind, "error": f"{where}: {error.strerror}" if where else str(error.strerror)}
    except BaseException as error:
        return {"kind": "failed", "error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Run the job of the command line."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.UNPACKER_MEMORY, limits.UNPACKER_MEMORY))
    os.umask(0)
    found = answer(json.loads(sys.argv[1]))
    os.write(1, json.dumps(found).encode())
    os._exit(0)


if __name__ == "__main__":
    main()
