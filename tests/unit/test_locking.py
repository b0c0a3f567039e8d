"""One of the two files with the data key is always there, whenever the manager is killed; the wrong key opens none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pycompose.manager.cluster.autolock import place_identity
from pycompose.manager.locking import KEY, LOCKED, is_locked, keep, new_unlock_key, opened
from pycompose.manager.sealing import SealError

DATA = bytes(range(32))


def test_the_key_goes_behind_another_and_comes_back(tmp_path: Path) -> None:
    first, second = new_unlock_key(), new_unlock_key()
    assert first != second
    (tmp_path / KEY).write_bytes(DATA)
    keep(tmp_path, DATA, first)
    assert is_locked(tmp_path)
    assert DATA not in (tmp_path / LOCKED).read_bytes()
    assert opened(tmp_path, f"  {first.upper()}\n") == DATA  # as people type
    with pytest.raises(SealError, match="not the unlock key"):
        opened(tmp_path, second)
    before = (tmp_path / LOCKED).read_bytes()
    keep(tmp_path, DATA, first)
    assert (tmp_path / LOCKED).read_bytes() == before, "nothing is written where all is as it is to be"
    keep(tmp_path, DATA, second)
    assert opened(tmp_path, second) == DATA
    with pytest.raises(SealError):
        opened(tmp_path, first)
    keep(tmp_path, DATA, "")
    assert not is_locked(tmp_path)
    assert (tmp_path / KEY).read_bytes() == DATA
    assert not (tmp_path / LOCKED).exists()


@pytest.mark.parametrize("to", ["on", "off"])
def test_killed_at_any_step_the_data_key_is_there(tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unlock_key = new_unlock_key()
    for step in range(12):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / KEY).write_bytes(DATA)
        keep(folder, DATA, "" if to == "on" else unlock_key)
        with monkeypatch.context() as patch:
            left = [step]
            for name in ("rename", "unlink", "fsync"):

                def counted(
                    *words: object, real: object = getattr(os, name), left: list[int] = left, **more: object
                ) -> object:
                    left[0] -= 1
                    if left[0] < 0:
                        raise KeyboardInterrupt
                    return real(*words, **more)  # type: ignore[operator]

                patch.setattr(os, name, counted)
            try:
                keep(folder, DATA, unlock_key if to == "on" else "")
                done = True
            except KeyboardInterrupt:
                done = False
        here = opened(folder, unlock_key) if is_locked(folder) else (folder / KEY).read_bytes()
        assert here == DATA
        keep(folder, DATA, unlock_key if to == "on" else "")
        assert sorted(path.name for path in folder.iterdir()) == [LOCKED if to == "on" else KEY]
    assert done, "the last step was not reached: raise the range"


def test_a_certificate_in_memory_and_back(tmp_path: Path) -> None:
    folder, volatile = tmp_path / "tls", tmp_path / "memory"
    folder.mkdir()
    (folder / "key.pem").write_bytes(b"secret")
    assert place_identity(folder, volatile)
    assert list(folder.iterdir()) == []
    (folder / "key.pem").write_bytes(b"new")
    assert (volatile / "key.pem").read_bytes() == b"new"
    assert not place_identity(folder, volatile)
    for path in volatile.iterdir():
        path.unlink()
    volatile.rmdir()  # a reboot
    assert place_identity(folder, volatile)
    assert folder.is_dir()
    assert place_identity(folder, None)
    assert not folder.exists()
    assert not place_identity(folder, None)
