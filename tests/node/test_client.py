"""The README's program: a service from `proto/` alone, on a real node."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from node.whole import IMAGE, Node, until

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "client.py"


def test_the_readme_shows_the_program() -> None:
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert PROGRAM.read_text().partition('"""\n\n')[2] in shown
    statements = [line for line in PROGRAM.read_text().split("with ", 1)[1].splitlines() if line.strip()]
    assert len(statements) <= 20


def test_the_program_creates_watches_reads_and_removes(shared: Node) -> None:
    done = shared.run(sys.executable, str(PROGRAM), IMAGE)
    assert done.returncode == 0, done.stdout + done.stderr + shared.log()
    lines = done.stdout.splitlines()
    for name in ("clock-1", "clock-2"):
        states = [line.split()[1] for line in lines if line.startswith(f"{name} TASK_STATE")]
        assert states[-1] == "TASK_STATE_RUNNING", done.stdout
        dates = [line for line in lines if re.match(rf"{name} \| \w+ \w+ +\d+ [\d:]+ UTC \d{{4}}$", line)]
        assert dates, done.stdout
    until(lambda: "clock" not in shared.compose("service", "ls"))


ABSENT = """
import os, grpc
from grpc_status import rpc_status
from google.rpc import error_details_pb2
from pycompose.proto.v1 import image_pb2, image_pb2_grpc

images = image_pb2_grpc.ImageServiceStub(grpc.insecure_channel(f"unix:{os.environ['PYCOMPOSE_RUN_DIR']}/api.sock"))
try:
    images.InspectImage(image_pb2.InspectImageRequest(image="absent"))
except grpc.RpcError as error:
    info = error_details_pb2.ResourceInfo()
    assert rpc_status.from_call(error).details[0].Unpack(info)
    print(error.code().name, info.resource_type)
"""


def test_refusals_about_images_have_details(shared: Node) -> None:
    done = shared.run(sys.executable, "-c", ABSENT)
    assert done.stdout.split() == ["NOT_FOUND", "image"], done.stderr
