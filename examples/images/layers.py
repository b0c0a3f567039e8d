"""Root file systems from Debian packages (mmdebstrap), the layers between them, and docker's archives of both.

A layer is what a root file system has more, or other, than the one below: an entry is other when its kind, mode, owner,
size, time or link is (as rsync compares). What is there no more becomes a whiteout (OCI image specification, layer.md).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

#: What no container reads. Unpacking need not survive a power cut either.
DPKG_OPTIONS = [f"path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")] + ["force-unsafe-io"]


def package_sources() -> list[str]:
    """Return the files of this machine's package sources."""
    found = [str(path) for path in sorted(Path("/etc/apt/sources.list.d").glob("*.sources"))]
    return found + [str(path) for path in [Path("/etc/apt/sources.list")] if path.exists() and path.stat().st_size]


def codename() -> str:
    """Return the name of this machine's Debian."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2].strip('"') for line in lines if line.startswith("VERSION_CODENAME="))


def debian(target: Path, packages: Sequence[str], base: Path | None = None) -> None:
    """Write the tar of a root file system with packages, on a base's where there is one."""
    command = ["mmdebstrap", "--quiet", "--format=tar", f"--include={','.join(packages)}"]
    command += [f"--dpkgopt={option}" for option in DPKG_OPTIONS]
    if base is None:
        command += ["--variant=minbase"]
    else:
        command += ["--variant=custom", f"--setup-hook=tar -C \"$1\" -xf '{base}'"]
    subprocess.run([*command, codename(), str(target), *package_sources()], check=True)


def _alike(one: tarfile.TarInfo, other: tarfile.TarInfo | None) -> bool:
    def seen(info: tarfile.TarInfo) -> tuple[Any, ...]:
        timed = 0 if info.isdir() else int(info.mtime)
        return info.type, info.mode, info.uid, info.gid, info.size, timed, info.linkname

    return other is not None and seen(one) == seen(other)


def difference(below: Path, above: Path, target: Path, without: Sequence[str]) -> None:
    """Write the layer that makes the tar `above` of `below`, without the content of some paths."""
    with tarfile.open(below) as archive:
        known = {info.name: info for info in archive}
    hidden = tuple(f"./{path}/" for path in without)
    named = {f"./{path}" for path in without}
    with tarfile.open(above) as source, tarfile.open(target, "w") as layer:
        for info in source:
            old = known.pop(info.name, None)
            if info.name.startswith(hidden) or (info.name in named and not info.isdir()) or _alike(info, old):
                continue
            layer.addfile(info, source.extractfile(info) if info.isreg() else None)
        for name in sorted(known):
            folder, _, last = name.rpartition("/")
            if folder not in known:
                layer.addfile(tarfile.TarInfo(f"{folder}/.wh.{last}"))


def own_files(
    target: Path, source: Path | None, folders: Mapping[str, tuple[str, int]], users: Mapping[str, tuple[int, int]]
) -> None:
    """Write the layer with files of ours, which root owns, and with folders of given owners."""
    with tarfile.open(target, "w") as layer:
        for path in sorted(source.rglob("*")) if source else ():
            info = layer.gettarinfo(path, os.path.relpath(path, source))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode, info.mtime = 0o755 if info.isdir() or info.mode & 0o100 else 0o644, 0
            if info.isreg():
                with path.open("rb") as file:
                    layer.addfile(info, file)
            else:
                layer.addfile(info)
        for name, (owner, mode) in folders.items():
            info = tarfile.TarInfo(name)
            info.type, info.mode, (info.uid, info.gid) = tarfile.DIRTYPE, mode, users[owner]
            layer.addfile(info)


def users_of(*layers: Path) -> dict[str, tuple[int, int]]:
    """Return user and group numbers by name, from the topmost layer (the last) that has /etc/passwd."""
    for path in reversed(layers):
        with tarfile.open(path) as archive:
            if "./etc/passwd" in archive.getnames():
                file = archive.extractfile("./etc/passwd")
                assert file is not None
                rows = [line.split(":") for line in file.read().decode().splitlines()]
                return {row[0]: (int(row[2]), int(row[3])) for row in rows}
    raise KeyError("/etc/passwd")


def digest(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(target: BinaryIO, images: Mapping[str, tuple[Sequence[Path], Mapping[str, Any]]], architecture: str) -> None:
    """Write docker's archive of images (reference -> layers, lowest first, and configuration); layers come once."""
    digests: dict[Path, str] = {}
    listed = []
    with tarfile.open(fileobj=target, mode="w|") as archive:

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for reference, (layers, settings) in images.items():
            for path in layers:
                if path not in digests:
                    digests[path] = digest(path)
                    archive.add(path, f"{digests[path]}/layer.tar")
            content = json.dumps(
                {
                    "os": "linux",
                    "architecture": architecture,
                    "config": settings,
                    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digests[path]}" for path in layers]},
                    "history": [{"created_by": f"examples/build-images ({path.stem})"} for path in layers],
                }
            ).encode()
            name = f"{hashlib.sha256(content).hexdigest()}.json"
            add(name, content)
            parts = [f"{digests[path]}/layer.tar" for path in layers]
            listed.append({"Config": name, "RepoTags": [f"{reference}:latest"], "Layers": parts})
        add("manifest.json", json.dumps(listed).encode())
