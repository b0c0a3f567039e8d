"""Pulling and pushing several images at once, drawn as they go: a line an image, on a terminal one a layer as well.

Streams are read in threads, and everything is drawn by the thread that waits for them. Ctrl-C ends the calls, and with
them the work on the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pycompose.compose.cli.display import TICK, Display
from pycompose.compose.cli.errors import Exit
from pycompose.compose.cli.interrupts import interrupts_into
from pycompose.compose.cli.words import size
from pycompose.compose.client import ApiError, Client, ClientError
from pycompose.compose.client.credentials import Wallet
from pycompose.compose.client.streams import Ended, Streams
from pycompose.proto.v1 import image_pb2

INTERRUPTED = 130
_WORDS = {
    image_pb2.LAYER_PHASE_WAITING: "Waiting",
    image_pb2.LAYER_PHASE_DOWNLOADING: "Downloading",
    image_pb2.LAYER_PHASE_UNPACKING: "Unpacking",
    image_pb2.LAYER_PHASE_DONE: "Done",
    image_pb2.LAYER_PHASE_EXISTS: "Already there",
    image_pb2.LAYER_PHASE_COMPRESSING: "Compressing",
    image_pb2.LAYER_PHASE_UPLOADING: "Uploading",
    image_pb2.LAYER_PHASE_MOUNTED: "Mounted from another repository",
}
_MEASURED = (image_pb2.LAYER_PHASE_DOWNLOADING, image_pb2.LAYER_PHASE_UPLOADING)
_FINISHED = (image_pb2.LAYER_PHASE_DONE, image_pb2.LAYER_PHASE_EXISTS, image_pb2.LAYER_PHASE_MOUNTED)


@dataclass(frozen=True)
class Wanted:
    """An image to pull: as the file names it, and "" or a platform."""

    reference: str
    platform: str = ""

    @property
    def label(self) -> str:
        """Its name in the display."""
        return f"Image {self.reference}" + (f" ({self.platform})" if self.platform else "")


@dataclass
class Transfer:
    """One pull or push: its last answer, or why it failed."""

    label: str
    layers: dict[str, image_pb2.LayerProgress] = field(default_factory=dict)
    answer: Any = None
    error: ClientError | None = None


def pull_all(
    client: Client, wanted: Iterable[Wanted], wallet: Wallet, display: Display, at_once: int = 8
) -> dict[Wanted, Transfer]:
    """Pull images; what failed has its error.

    Raises:
        CredentialError: an account cannot be read; nothing was pulled then.
        Exit: interrupted.
    """
    requests = {
        one: image_pb2.PullImageRequest(
            reference=one.reference, platform=one.platform, credentials=wallet.of(one.reference)
        )
        for one in wanted
    }
    calls = {
        one: (one.label, lambda request=request: client.images.PullImage(request)) for one, request in requests.items()
    }
    return _run(calls, display, ("Pulling", "Pulled"), at_once)


def push_all(
    client: Client, references: Iterable[str], wallet: Wallet, display: Display, at_once: int = 4
) -> dict[str, Transfer]:
    """Push images; what failed has its error.

    Raises:
        CredentialError, Exit: as `pull_all`.
    """
    requests = {
        name: image_pb2.PushImageRequest(reference=name, credentials=wallet.of(name))
        for name in dict.fromkeys(references)
    }
    calls = {
        name: (f"Image {name}", lambda request=request: client.images.PushImage(request))
        for name, request in requests.items()
    }
    return _run(calls, display, ("Pushing", "Pushed"), at_once)


def pull_one(client: Client, reference: str, platform: str, display: Display, wallet: Wallet | None = None) -> Any:
    """Pull an image; returns the last answer.

    Raises:
        ClientError: the registry refuses, or cannot be reached.
        Exit: interrupted.
    """
    wanted = Wanted(reference, platform)
    done = pull_all(client, [wanted], wallet or Wallet(), display)[wanted]
    if done.error is not None:
        raise done.error
    return done.answer


def _run(
    calls: Mapping[Any, tuple[str, Callable[[], Any]]], display: Display, words: tuple[str, str], at_once: int
) -> dict[Any, Transfer]:
    """Run calls beside each other and draw them."""
    transfers = {key: Transfer(label) for key, (label, _) in calls.items()}
    names = {str(number): key for number, key in enumerate(calls)}
    waiting, running = list(names), set[str]()
    with interrupts_into(Streams()) as streams:
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop(0)
                running.add(name)
                display.set(transfers[names[name]].label, words[0])
                streams.add(name, calls[names[name]][1]())
            item = streams.get(TICK if display.live else None)
            if item is not None:
                if item[0] == "interrupt":
                    display.freeze()
                    raise Exit(INTERRUPTED)
                transfer = transfers[names[item[0]]]
                if isinstance(item[1], Ended):
                    running.discard(item[0])
                    _ended(transfer, item[1].error, display, words)
                else:
                    _take(transfer, item[1], display, words[0])
            display.tick()
    return transfers


def _take(transfer: Transfer, answer: Any, display: Display, word: str) -> None:
    if not answer.layers:
        transfer.answer = answer
        return
    transfer.layers.update({layer.layer: layer for layer in answer.layers})
    if not display.live:
        return
    for layer in answer.layers:
        detail = f"{size(layer.current_bytes)} of {size(layer.total_bytes)}" if layer.phase in _MEASURED else ""
        state = "done" if layer.phase in _FINISHED else "busy"
        display.set(f"  {layer.layer.removeprefix('sha256:')[:12]}", _WORDS.get(layer.phase, ""), detail, state)
    left = [layer for layer in transfer.layers.values() if layer.phase not in _FINISHED]
    total = sum(layer.total_bytes for layer in transfer.layers.values())
    display.set(
        transfer.label, word, f"{size(total)}, {len(left)} of {len(transfer.layers)} layers left" if left else ""
    )


def _ended(transfer: Transfer, error: ClientError | None, display: Display, words: tuple[str, str]) -> None:
    if error is None and transfer.answer is None:
        error = ApiError(
            f"the node ended the work on {transfer.label} without an answer; its log may say why", "INTERNAL"
        )
    transfer.error = error
    if error is not None:
        display.set(transfer.label, "Error", "", "failed")
        for layer in transfer.layers.values():
            if display.live and layer.phase not in _FINISHED:
                display.set(f"  {layer.layer.removeprefix('sha256:')[:12]}", "Stopped", "", "failed")
        return
    display.set(transfer.label, words[1], moved(transfer.answer), "done")


def moved(answer: Any) -> str:
    """Return "3f4c5d6e7f80 → 9a8b7c6d5e4f" when a pull gave a name to another image than had it, else ""."""
    before = getattr(answer, "previous_image_id", "")
    if not before or before == answer.image.id:
        return ""
    return f"{short(before)} → {short(answer.image.id)}"


def short(identity: str) -> str:
    """Return the first 12 digits of an id."""
    return identity.removeprefix("sha256:")[:12]


def problems(transfers: Mapping[Any, Transfer], say: Callable[[Any, ClientError], str]) -> Iterator[str]:
    """Yield a message for each transfer that failed."""
    for key, transfer in transfers.items():
        if transfer.error is not None:
            yield say(key, transfer.error)
