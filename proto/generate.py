"""Generate the stubs in `proto/v1` from the sources in `proto/pycompose/v1`: `python proto/generate.py [--check]`.

protoc names modules after the files' paths (`pycompose/v1/task.proto` becomes `pycompose.v1.task_pb2`); the stubs live
in `pycompose.proto.v1`, so their imports are rewritten. File names in the descriptor pool stay `pycompose/v1/…`, which
no other package registers. With --check nothing is written; the exit status is 1 when a stub is not up to date.
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
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def generate(target: Path) -> dict[str, str]:
    """Run protoc into `target`; return the stubs' texts by file name."""
    sources = sorted((HERE / "pycompose" / "v1").glob("*.proto"))
    well_known = Path(protobuf.__file__).resolve().parent.parent
    bundled = Path(protoc.__file__).resolve().parent / "_proto"
    status = protoc.main(
        [
            "protoc",
            *(f"--plugin={plugin}={Path(sys.executable).parent / plugin}" for plugin in PLUGINS),
            f"-I{HERE}",
            f"-I{bundled}",
            f"-I{well_known}",
            f"--python_out={target}",
            f"--grpc_python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--mypy_grpc_out=quiet:{target}",
            *(str(source.relative_to(HERE)) for source in sources),
        ]
    )
    if status:
        raise SystemExit(status)
    return {path.name: rewrite(path.read_text()) for path in sorted((target / "pycompose" / "v1").iterdir())}


def rewrite(stub: str) -> str:
    """Return the stub with its imports of `pycompose.v1` pointing at `pycompose.proto.v1`."""
    stub = re.sub(r"^(\s*(?:from|import) )pycompose\.v1\b", r"\1pycompose.proto.v1", stub, flags=re.MULTILINE)
    return re.sub(r"\b_?pycompose\.v1\.(?=\w+_pb2\b)", "pycompose.proto.v1.", stub)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        stubs = generate(Path(folder))
    present = {path.name for path in STUBS.glob("*_pb2*")}
    if "--check" in arguments:
        stale = [name for name, text in stubs.items() if name not in present or (STUBS / name).read_text() != text]
        stale += sorted(present - stubs.keys())
        for name in stale:
            sys.stderr.write(f"proto/v1/{name} is not up to date: run `make proto`\n")
        return 1 if stale else 0
    for name in present - stubs.keys():
        (STUBS / name).unlink()
    for name, text in stubs.items():
        (STUBS / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
