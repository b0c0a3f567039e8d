"""Generate the stubs: `python proto/generate.py [--check]`.

Those of the API in `proto/v1` come from `proto/pycompose/v1`, and etcd's messages in `manager/store/etcd` from the
file there. protoc names modules after the files' paths (`pycompose/v1/task.proto` becomes `pycompose.v1.task_pb2`); the
API's stubs live in `pycompose.proto.v1`, so their imports are rewritten. File names in the descriptor pool stay
`pycompose/…`, which no other package registers. With --check nothing is written; the exit status is 1 when a stub is
not up to date.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from google import protobuf
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
STUBS = HERE / "v1"
ETCD = HERE.parent / "manager" / "store" / "etcd"
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def generate(target: Path) -> dict[Path, str]:
    """Run protoc into `target`; return the stubs' texts by the file each belongs to."""
    api = [str(source.relative_to(HERE)) for source in sorted((HERE / "pycompose" / "v1").glob("*.proto"))]
    run([f"-I{HERE}"], [*outputs(target), *services(target), *api])
    # Its file has this name in the descriptor pool, and its module is where the name says.
    place = "pycompose/manager/store/etcd"
    run([f"-I{place}={ETCD}"], [*outputs(target), f"{place}/wire.proto"])
    made = {STUBS / path.name: rewrite(path.read_text()) for path in sorted((target / "pycompose" / "v1").iterdir())}
    return made | {ETCD / path.name: path.read_text() for path in sorted((target / place).iterdir())}


def outputs(target: Path) -> list[str]:
    """Options for messages."""
    return [f"--python_out={target}", f"--mypy_out=quiet:{target}"]


def services(target: Path) -> list[str]:
    """Options for services."""
    return [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]


def run(includes: list[str], arguments: list[str]) -> None:
    """Run protoc."""
    plugins = [f"--plugin={plugin}={Path(sys.executable).parent / plugin}" for plugin in PLUGINS]
    well_known = Path(protobuf.__file__).resolve().parent.parent
    bundled = Path(protoc.__file__).resolve().parent / "_proto"
    status = protoc.main(["protoc", *plugins, *includes, f"-I{bundled}", f"-I{well_known}", *arguments])
    if status:
        raise SystemExit(status)


def rewrite(stub: str) -> str:
    """Return the stub with its imports of `pycompose.v1` pointing at `pycompose.proto.v1`."""
    stub = re.sub(r"^(\s*(?:from|import) )pycompose\.v1\b", r"\1pycompose.proto.v1", stub, flags=re.MULTILINE)
    return re.sub(r"\b_?pycompose\.v1\.(?=\w+_pb2\b)", "pycompose.proto.v1.", stub)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        stubs = generate(Path(folder))
    present = {*STUBS.glob("*_pb2*"), *ETCD.glob("*_pb2*")}
    if "--check" in arguments:
        stale = [path for path, text in stubs.items() if path not in present or path.read_text() != text]
        stale += sorted(present - stubs.keys())
        for path in stale:
            sys.stderr.write(f"{path.relative_to(HERE.parent)} is not up to date: run `make proto`\n")
        return 1 if stale else 0
    for path in present - stubs.keys():
        path.unlink()
    for path, text in stubs.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
