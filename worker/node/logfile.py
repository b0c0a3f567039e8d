"""The node's log: bounded, by copying it aside and cutting it to nothing (as logrotate(8) does with copytruncate).

All processes of the node, also those that outlive the supervisor, write to one file that they opened for appending;
nobody has to open it anew.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LIMIT, KEPT = 10 << 20, 3


def is_written_by(path: Path, descriptor: int) -> bool:
    """Return whether a descriptor is the log (it is a terminal or a journal when somebody else started the node)."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def rotate(path: Path, limit: int = LIMIT, kept: int = KEPT) -> bool:
    """Move the log's content to `path`.1 when it is longer than `limit` bytes; at most `kept` of those stay."""
    try:
        if path.stat().st_size <= limit:
            return False
        for number in range(kept - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.rename(path.with_name(f"{path.name}.{number + 1}"))
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
    except OSError:
        # a full disk: what cannot be kept is given up, so that there is room again
        pass
    os.truncate(path, 0)
    return True
