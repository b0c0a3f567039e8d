"""Manifests, indexes and image configurations, read and checked purely.

Sources: image-spec (manifest.md, image-index.md, config.md, descriptor.md), Docker's "Image Manifest V 2, Schema 2".
A document that could be read in two ways is refused (CVE-2021-41190), and so is a digest that is none, before any
path or request is made from it.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pycompose.worker.images import limits, platforms
from pycompose.worker.images.blobs import digest_of, is_digest
from pycompose.worker.images.errors import BadArchive

OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
OCI_MANIFEST, OCI_INDEX = OCI + "manifest.v1+json", OCI + "index.v1+json"
DOCKER_MANIFEST, DOCKER_LIST = DOCKER + "distribution.manifest.v2+json", DOCKER + "distribution.manifest.list.v2+json"
OCI_CONFIG, DOCKER_CONFIG = OCI + "config.v1+json", DOCKER + "container.image.v1+json"
MANIFESTS, INDEXES = (OCI_MANIFEST, DOCKER_MANIFEST), (OCI_INDEX, DOCKER_LIST)
#: What a registry is told that we read.
ACCEPT = ", ".join((*INDEXES, *MANIFESTS))
#: Media type of a layer by what it is packed with.
LAYER_TYPES = {"tar": OCI + "layer.v1.tar", "gzip": OCI + "layer.v1.tar+gzip", "zstd": OCI + "layer.v1.tar+zstd"}
_LAYERS = {
    *LAYER_TYPES.values(),
    DOCKER + "image.rootfs.diff.tar",
    DOCKER + "image.rootfs.diff.tar.gzip",
    DOCKER + "image.rootfs.diff.tar.zstd",
}
_LARGEST_BLOB = 1 << 40
_VARIABLE = re.compile(r"[^=\x00-\x1f]+=[^\x00]*\Z", re.DOTALL)
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(?:tcp|udp|sctp))?\Z")


@dataclass(frozen=True)
class Descriptor:
    """What a document says about other content; `size` in bytes."""

    media_type: str
    digest: str
    size: int
    platform: platforms.Platform | None = None
    annotations: Mapping[str, str] | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Manifest:
    """One image for one platform. `raw`: the bytes that its digest is of."""

    raw: bytes
    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Index:
    """Images for several platforms."""

    raw: bytes
    digest: str
    media_type: str
    entries: tuple[Descriptor, ...]

    def choose(self, wanted: platforms.Platform) -> Descriptor | None:
        """Return the entry for a machine, None when there is none."""
        real = [one for one in self.entries if one.platform is None or one.platform.os != "unknown"]
        offered = [one.platform or platforms.platform("", "") for one in real]
        found = platforms.choose(offered, wanted)
        if found is None and len(real) == 1 and real[0].platform is None:
            return real[0]
        return real[found] if found is not None else None

    def offers(self) -> str:
        """Return the platforms that there are, for a message."""
        names = [str(one.platform) for one in self.entries if one.platform and one.platform.os != "unknown"]
        return ", ".join(dict.fromkeys(names)) or "none"


def parse(raw: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index.

    Args:
        media_type: what came with it (Content-Type, or a descriptor's); "" when nothing did.

    Raises:
        BadArchive: it is neither, or not well formed.
    """
    if len(raw) > limits.MANIFEST_BYTES:
        raise BadArchive(f"a manifest has more than {limits.MANIFEST_BYTES >> 20} MiB")
    document = json_object(raw, "a manifest")
    media_type = media_type.partition(";")[0].strip().lower()
    own = document.get("mediaType", "")
    if own and media_type in (*MANIFESTS, *INDEXES) and own != media_type:
        raise BadArchive(f"a manifest says it is {_short(own)}, and comes as {_short(media_type)}")
    media_type = own or media_type
    if document.get("schemaVersion") == 1 or "fsLayers" in document:
        raise BadArchive("the image has a manifest of Docker's schema 1, which nobody makes since 2017; push it again")
    has_layers, has_entries = "layers" in document or "config" in document, "manifests" in document
    if has_layers and has_entries:
        raise BadArchive("a manifest has both layers and manifests, and could be read in two ways")
    if has_entries and media_type not in MANIFESTS:
        entries = listed(document, "manifests", limits.INDEX_ENTRIES)
        kind = media_type if media_type in INDEXES else OCI_INDEX
        return Index(raw, digest_of(raw), kind, tuple(descriptor(one, "manifests") for one in entries))
    if not has_layers or media_type in INDEXES:
        raise BadArchive(f"this is no container image: its manifest has neither layers nor manifests ({_short(own)})")
    config = descriptor(document.get("config"), "config")
    layers = tuple(descriptor(one, "layers") for one in listed(document, "layers", limits.LAYERS))
    if config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        raise BadArchive(f"this is no container image, but {_short(config.media_type)}")
    for layer in layers:
        if layer.media_type not in _LAYERS:
            raise BadArchive(f"layer {layer.digest[7:19]} is {_short(layer.media_type)}, which cannot be unpacked")
    kind = media_type if media_type in MANIFESTS else OCI_MANIFEST
    return Manifest(raw, digest_of(raw), kind, config, layers)


def make(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """Return an OCI manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.document(),
        "layers": [layer.document() for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def config_of(raw: bytes, layers: int) -> dict[str, Any]:
    """Read an image configuration and check what a node acts upon.

    Args:
        layers: how many there are in the manifest.

    Raises:
        BadArchive: naming the field that makes no sense.
    """
    if len(raw) > limits.CONFIG_BYTES:
        raise BadArchive(f"an image configuration has more than {limits.CONFIG_BYTES >> 20} MiB")
    document = json_object(raw, "an image configuration")
    root = document.get("rootfs")
    diff_ids = root.get("diff_ids") if isinstance(root, dict) else None
    if not isinstance(diff_ids, list) or not all(map(is_digest, diff_ids)):
        raise BadArchive("the image configuration's rootfs.diff_ids is no list of sha256 digests")
    if len(diff_ids) != layers:
        raise BadArchive(f"the image configuration lists {len(diff_ids)} layers, the manifest {layers}")
    history = document.get("history")
    if history is not None and not (isinstance(history, list) and all(isinstance(one, dict) for one in history)):
        raise BadArchive("the image configuration's history is no list of objects")
    for key in ("os", "architecture", "variant", "created", "author"):
        if not isinstance(document.get(key) or "", str):
            raise BadArchive(f"the image configuration's {key} is no text")
    problem = _problem(document.get("config"))
    if problem:
        raise BadArchive(f"the image configuration's {problem}; its maker has to correct it")
    return document


def _problem(config: Any) -> str:
    """Return what is wrong with the part of an image configuration that containers are made from; "" for nothing."""
    if config is None:
        return ""
    if not isinstance(config, dict):
        return "config is no object"
    for key in ("Env", "Cmd", "Entrypoint", "OnBuild", "Shell"):
        value = config.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(one, str) for one in value)):
            return f"{key} is no list of texts"
    for key in ("User", "WorkingDir", "StopSignal"):
        value = config.get(key) or ""
        if not isinstance(value, str) or "\0" in value:
            return f"{key} is no text"
    for pair in config.get("Env") or ():
        if not _VARIABLE.match(pair):
            return f"Env has {pair[:40]!r}, which is no KEY=value"
    for key in ("ExposedPorts", "Volumes", "Labels"):
        if not isinstance(config.get(key) or {}, dict):
            return f"{key} is no object"
    for port in config.get("ExposedPorts") or ():
        found = _PORT.match(port)
        if not found or not all(0 < int(each) < 65536 for each in found.groups() if each):
            return f"ExposedPorts has {port[:40]!r}, which is no port"
    for path in config.get("Volumes") or ():
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            return f"Volumes has {path[:40]!r}, which is no absolute path"
    return _signal_problem(config.get("StopSignal") or "") or _health_problem(config.get("Healthcheck"))


def _signal_problem(name: str) -> str:
    word = name.upper().removeprefix("SIG")
    if not word or (word.isdigit() and 0 < int(word) <= 64) or f"SIG{word}" in signal.Signals.__members__:
        return ""
    if re.fullmatch(r"RTM(IN|AX)([+-]\d{1,2})?", word):
        return ""
    return f"StopSignal is {name[:40]!r}, and there is no such signal"


def _health_problem(check: Any) -> str:
    if check is None:
        return ""
    if not isinstance(check, dict):
        return "Healthcheck is no object"
    test = check.get("Test") or []
    if not isinstance(test, list) or not all(isinstance(one, str) for one in test):
        return "Healthcheck.Test is no list of texts"
    for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"):
        value = check.get(key) or 0
        if not isinstance(value, int) or (value and value < 1_000_000):
            return f"Healthcheck.{key} is {str(value)[:40]} ns, and the least is a millisecond"
    retries = check.get("Retries") or 0
    return "" if isinstance(retries, int) and retries >= 0 else "Healthcheck.Retries is no number"


def json_object(raw: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object; `what` names it in messages. Raises BadArchive."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise BadArchive(f"{what} is no JSON") from None
    if not isinstance(document, dict):
        raise BadArchive(f"{what} is no JSON object")
    return document


def listed(document: dict[str, Any], key: str, most: int) -> list[Any]:
    """Return a list of a document, empty where it has none. Raises BadArchive."""
    found = document.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > most:
        raise BadArchive(f"a manifest's {key} is no list of at most {most}")
    return found


def descriptor(value: Any, where: str) -> Descriptor:
    """Read what a manifest's part `where` says about other content. Raises BadArchive."""
    if not isinstance(value, dict):
        raise BadArchive(f"a manifest's {where} has no descriptor")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not is_digest(digest):
        raise BadArchive(f"a manifest's {where} has {str(digest)[:80]!r} where a sha256 digest should be")
    if type(size) is not int or not 0 <= size < _LARGEST_BLOB:
        raise BadArchive(f"a manifest's {where} has the impossible size {str(size)[:40]}")
    named = value.get("platform")
    annotations = value.get("annotations")
    texts = {str(key): str(text) for key, text in annotations.items()} if isinstance(annotations, dict) else None
    return Descriptor(
        media_type if isinstance(media_type, str) else "",
        str(digest),
        size,
        platforms.of(named) if isinstance(named, dict) else None,
        texts,
    )


def _short(media_type: object) -> str:
    return repr(str(media_type)[:80])
