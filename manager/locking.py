"""The data key behind another one, which a person has: a disk that is stolen opens nothing.

``STATE/manager/key`` is the data key as it is, ``key.locked`` the same under the unlock key. With autolock the first
file is not there: a manager that starts waits for the unlock key (`locked`), and keeps the data key in memory. One of
the two files is always there.

The scheme is that of Swarm's autolock. The key's 258 bits of chance need no slow derivation.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import string
from pathlib import Path

from pycompose.manager.sealing import Sealer, SealError
from pycompose.proto.files import replace, sync_folder

KEY, LOCKED = "key", "key.locked"
_PREFIX, _DIGITS, _LENGTH = "PYCU1-", string.digits + string.ascii_lowercase, 50
_PLACE, _GONE = "manager/key", ".gone"


def new_unlock_key() -> str:
    """Return a key for a person to keep."""
    return _PREFIX + "".join(secrets.choice(_DIGITS) for _ in range(_LENGTH))


def is_locked(folder: Path) -> bool:
    """Whether the data key is there for whoever has the unlock key alone."""
    return (folder / LOCKED).exists() and not (folder / KEY).exists()


def opened(folder: Path, unlock_key: str) -> bytes:
    """Return the data key. Raises SealError: the unlock key is another; OSError."""
    try:
        return _sealer(unlock_key).open((folder / LOCKED).read_bytes(), _PLACE)
    except SealError:
        raise SealError("this is not the unlock key; who set autolock has it: pycompose cluster unlock-key") from None


def keep(folder: Path, data_key: bytes, unlock_key: str) -> None:
    """Have the data key on disk as it is to be: under `unlock_key`, or, when that is "", as it is. Raises OSError."""
    for left in folder.glob(f".{KEY}*"):  # of a write that was cut short
        remove(left)
    if unlock_key:
        if not _fits(folder, data_key, unlock_key):
            replace(folder / LOCKED, _sealer(unlock_key).seal(data_key, _PLACE))
        remove(folder / KEY)
        return
    if not (folder / KEY).exists():
        replace(folder / KEY, data_key)
    remove(folder / LOCKED)


def _fits(folder: Path, data_key: bytes, unlock_key: str) -> bool:
    try:
        return opened(folder, unlock_key) == data_key
    except (SealError, OSError):
        return False


def remove(path: Path) -> None:
    """Remove a file with a key; its bytes are written over first, for what that is worth on this disk. Raises OSError.

    It is out of the way before they are: a key that is half gone must not be taken for one.
    """
    gone = path.with_name(path.name + _GONE)
    if path.exists():
        path.rename(gone)
        sync_folder(path.parent)
    if gone.exists():
        with gone.open("r+b") as file:
            file.write(bytes(gone.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        gone.unlink()


def _sealer(unlock_key: str) -> Sealer:
    return Sealer(hashlib.sha256(b"pycompose unlock key\0" + unlock_key.strip().lower().encode()).digest())
