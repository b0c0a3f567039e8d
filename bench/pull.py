"""``python -m bench.pull``: pulling an image of some 100 MB from a registry on loopback, beside `skopeo copy`.

Both talk to the same docker-registry in a network namespace of their own. skopeo writes an OCI layout: it fetches and
checks; the store fetches, checks and unpacks as well, which a container needs. Printed are seconds, the median of
ROUNDS after one that warms up.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pycompose.worker.images import ImageStore
from pycompose.worker.images.registries import Registries

LAYERS, FILES, ROUNDS, PORT = 6, 400, 3, 5000
REGISTRY = f"127.0.0.1:{PORT}"
CLONE_NEWNET = 0x40000000


def archive(path: Path) -> None:
    """Write a docker archive: layers of files of which half can be compressed."""
    chance = random.Random(1)
    layers = []
    for number in range(LAYERS):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for each in range(FILES):
                info = tarfile.TarInfo(f"usr/layer{number}/d{each % 20}/f{each}")
                data = chance.randbytes(42_000) + bytes([each % 256]) * 42_000
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        layers.append(out.getvalue())
    diff_ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    config = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    files = {"config.json": json.dumps(config).encode()}
    files |= {f"{number}.tar": layer for number, layer in enumerate(layers)}
    listed = [{"Config": "config.json", "RepoTags": ["bench:1"], "Layers": list(files)[1:]}]
    with tarfile.open(path, "w") as tar:
        for name, data in {**files, "manifest.json": json.dumps(listed).encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def serve(folder: Path) -> subprocess.Popen[bytes]:
    """Start a registry in a network namespace that this process enters too."""
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
        sys.exit("a network namespace takes root")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    settings = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": REGISTRY, "secret": "bench"},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))
    quiet = subprocess.DEVNULL
    return subprocess.Popen(["docker-registry", "serve", str(folder / "registry.yml")], stdout=quiet, stderr=quiet)


def skopeo(*words: str) -> None:
    """Run skopeo."""
    subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", *words], check=True)


def timed(work: Callable[[Path], None], folder: Path) -> float:
    """Return the median seconds of the work, each time into an empty directory; what was written is flushed between."""
    found = []
    for number in range(ROUNDS + 1):
        target = folder / f"target-{number}"
        os.sync()
        begin = time.monotonic()
        work(target)
        found.append(time.monotonic() - begin)
        shutil.rmtree(target, ignore_errors=True)
    return statistics.median(found[1:])


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bench-pull-") as name:
        folder = Path(name)
        archive(folder / "image.tar")
        registry = serve(folder)
        try:
            time.sleep(1)
            skopeo("--dest-tls-verify=false", f"docker-archive:{folder}/image.tar", f"docker://{REGISTRY}/bench:1")
            sizes = [path.stat().st_size for path in (folder / "registry").rglob("data")]

            def pull(target: Path) -> None:
                asyncio.run(Registries(ImageStore(target)).pull(f"{REGISTRY}/bench:1"))

            def copy(target: Path) -> None:
                skopeo("--src-tls-verify=false", f"docker://{REGISTRY}/bench:1", f"oci:{target}:1")

            print(f"image: {LAYERS} layers, {LAYERS * FILES:,} files, {sum(sizes) / 1e6:.0f} MB packed")
            ours, theirs = timed(pull, folder), timed(copy, folder)
            print(f"pycompose pull (fetched, checked, unpacked)   {ours:6.2f} s")
            print(f"skopeo copy to an OCI layout (fetched)        {theirs:6.2f} s   ratio {ours / theirs:.2f}")
        finally:
            registry.kill()
            registry.wait()


if __name__ == "__main__":
    main()
