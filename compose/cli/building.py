"""Building several images at once, each after those that it builds upon, drawn as they go.

On a terminal there is a line an image, with the step that is being done and what it says; elsewhere a line for each
step and each line of output. A build that fails shows the Dockerfile's lines, and the end of what the step said.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pycompose.compose.cli.display import TICK, Display
from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.fitting import clean
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.client import ApiError, Client, ClientError
from pycompose.compose.client.streams import Ended, Streams
from pycompose.proto.v1 import build_pb2

if TYPE_CHECKING:
    from pycompose.compose.builder.requests import Order

INTERRUPTED = 130
LINES = 20
#: How the API names a missing source.
SOURCE = "spec.source:"
_PLACE = re.compile(r"\S+?:(\d+)(?::\d+)?: ")


@dataclass
class _Step:
    title: str
    last: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    rest: str = ""


@dataclass
class _Progress:
    """One image's build."""

    order: Order
    steps: dict[int, _Step] = field(default_factory=dict)
    cached: int = 0
    image: str = ""
    failed: int = 0

    @property
    def label(self) -> str:
        """Its name in the display."""
        return f"Image {self.order.image}"


def build_all(client: Client, orders: Sequence[Order], display: Display, at_once: int = 4) -> dict[str, str]:
    """Build images; returns their ids by service.

    Args:
        client: the node.
        orders: those of a service's `after` that are among them are built before it.
        display: shows what goes on.
        at_once: builds beside each other.

    Raises:
        CliError: a build failed; the others were ended.
        Exit: interrupted.
    """
    from pycompose.compose.builder.calls import BuildCall

    waiting = {order.service: order for order in orders}
    running: dict[str, _Progress] = {}
    calls: dict[str, BuildCall] = {}
    done: dict[str, str] = {}
    with interrupts_into(Streams()) as streams:
        try:
            while waiting or running:
                for name in _ready(waiting, running, at_once - len(running)):
                    order = waiting.pop(name)
                    running[name] = progress = _Progress(order)
                    display.set(progress.label, "Building")
                    calls[name] = BuildCall(client, order.request, order.folders)
                    streams.add(name, calls[name])
                item = streams.get(TICK if display.live else None)
                if item is None:
                    display.tick()
                    continue
                name, what = item
                if name == "interrupt":
                    display.freeze()
                    raise Exit(INTERRUPTED)
                progress = running[name]
                if isinstance(what, Ended):
                    del running[name], calls[name]
                    done[name] = _ended(progress, what.error, display)
                else:
                    _take(progress, what, display)
                display.tick()
        finally:
            for call in calls.values():
                call.cancel()
    return done


def _ready(waiting: Mapping[str, Order], running: Collection[str], room: int) -> list[str]:
    """Return what can be built now: what builds upon nothing that waits or is being built."""
    pending = {*waiting, *running}
    return [name for name, order in waiting.items() if not order.after & pending][: max(0, room)]


def _take(progress: _Progress, answer: build_pb2.BuildResponse, display: Display) -> None:
    kind = answer.WhichOneof("message")
    if kind == "result":
        progress.image = answer.result.image.id
    elif kind == "warning":
        file = progress.order.request.dockerfile_name
        display.note(f"warning: {file}:{answer.warning.line}: {answer.warning.message}")
    elif kind == "step":
        _step(progress, answer.step, display)


def _step(progress: _Progress, told: build_pb2.BuildStep, display: Display) -> None:
    if told.title:
        progress.steps[told.number] = _Step(told.title)
    step = progress.steps.get(told.number)
    if step is None:
        return
    for line in _lines(step, told.output):
        step.last.append(line)
        if display.mode == "plain":
            display.note(f" {progress.order.title} | {line}")
    if told.state == build_pb2.BUILD_STEP_STATE_FAILED:
        progress.failed = told.number
    if told.state == build_pb2.BUILD_STEP_STATE_CACHED:
        progress.cached += 1
    if told.state in (build_pb2.BUILD_STEP_STATE_DONE, build_pb2.BUILD_STEP_STATE_CACHED):
        word = "cached" if told.state == build_pb2.BUILD_STEP_STATE_CACHED else f"{told.duration_ns / 1e9:.1f} s"
        if display.mode == "plain":
            display.note(f" {progress.order.title} {step.title}  {word}")
        return
    detail = step.title + (f": {step.last[-1]}" if step.last else "")
    if display.mode == "plain":
        if told.title:
            display.note(f" {progress.order.title} {step.title}")
    else:
        display.set(progress.label, "Building", detail)


def _lines(step: _Step, output: bytes) -> list[str]:
    """Return the whole lines of a step's output; what a carriage return takes back is not shown."""
    text = step.rest + output.decode("utf-8", "replace")
    *whole, step.rest = text.split("\n")
    return [clean(line.rstrip("\r").rpartition("\r")[2]) for line in whole]


def _ended(progress: _Progress, error: ClientError | None, display: Display) -> str:
    if error is None and not progress.image:
        error = ApiError("the node ended the build without an answer; its log may say why", "INTERNAL")
    if error is None:
        count = len(progress.steps)
        words = f"{count} steps" + (f", {progress.cached} from the cache" if progress.cached else "")
        display.set(progress.label, "Built", words, "done")
        return progress.image
    display.set(progress.label, "Error", "", "failed")
    display.freeze()
    raise CliError(explained(progress.order, error, progress.steps.get(progress.failed)))


def explained(order: Order, error: ClientError, step: _Step | None = None) -> str:
    """Return why a build failed, for people: with the Dockerfile's lines, and the end of what the step said."""
    parts = [f"services.{order.service}.build: {error}" if order.service else str(error)]
    if isinstance(error, ApiError):
        for what, _ in error.violations:
            source = what.removeprefix(SOURCE)
            if source != what and (folder := order.folders.get("")) is not None and folder.drops(source):
                parts[0] += f"; {folder.ignored.file} leaves it out"
    match = _PLACE.match(str(error))
    if match is not None:
        parts.append(_excerpt(order.request.dockerfile, int(match[1])))
    said = [*(step.last if step is not None else ()), *([step.rest] if step is not None and step.rest else [])]
    if said:
        parts.append("\n".join(["the last lines of the step:", *(f"  {line}" for line in said)]))
    return "\n".join(parts)


def _excerpt(dockerfile: bytes, first: int) -> str:
    """Return an instruction's lines with their numbers."""
    lines = dockerfile.decode("utf-8", "replace").splitlines()
    last = first
    while last < len(lines) and last - first < 10 and lines[last - 1].rstrip().endswith(("\\", "`")):
        last += 1
    width = len(str(last))
    numbers = range(first, min(last, len(lines)) + 1)
    return "\n".join(f"  {number:>{width}} | {clean(lines[number - 1])}" for number in numbers)
