"""`image`: images of the node."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import click

from pycompose.compose.cli import words
from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import group
from pycompose.compose.cli.images_step import pull as pull_image
from pycompose.compose.cli.inspection import split_reference
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.objects import each, has_labels, inspect
from pycompose.compose.cli.settings import settings
from pycompose.proto.v1 import image_pb2

CHUNK = 512 << 10
COLUMNS = {"Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE"}


@group()
def image() -> None:
    """Manage images."""


@image.command("ls")
@click.option("-a", "--all", is_flag=True, hidden=True)
@click.option("--digests", is_flag=True, help="Also digests.")
@listing("label", "reference", "dangling", short=True)
@click.argument("reference", required=False, default="")
def ls(all: bool, digests: bool, reference: str, listing_: Listing) -> None:
    """List images."""
    wanted = listing_.wanted
    reference = reference or next(iter(wanted.get("reference", ())), "")
    with settings().client(start=False) as client:
        images = client.images.ListImages(image_pb2.ListImagesRequest(reference=reference)).images
    rows = []
    for one in sorted(images, key=lambda item: -item.created_at.ToNanoseconds()):
        dangling = str(not one.references).lower()
        if has_labels(one.labels, wanted.get("label", ())) and listing_.equal("dangling", dangling):
            rows += [_row(one, name, listing_) for name in one.references or ["<none>:<none>"]]
    columns = dict(COLUMNS)
    if digests:
        columns = {"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", **COLUMNS}
    listing_.print(rows, columns)


def _row(one: image_pb2.Image, name: str, listing_: Listing) -> dict[str, Any]:
    repository, tag = split_reference(name)
    digest = next((text.partition("@")[2] for text in one.digests), "<none>")
    since = f"{words.since(one.created_at, time.time())} ago" if one.HasField("created_at") else "N/A"
    return {
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "ID": listing_.id(one.id),
        "CreatedSince": since,
        "CreatedAt": one.created_at.ToJsonString(),
        "Size": words.size(one.size_bytes),
        "Platform": one.platform,
    }


@image.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
def inspect_(names: tuple[str, ...], form: str | None) -> None:
    """Print images as JSON."""
    with settings().client(start=False) as client:

        def get(name: str) -> dict[str, Any]:
            answer = client.images.InspectImage(image_pb2.InspectImageRequest(image=name))
            found: Any = json.loads(answer.json)
            return found[0] if isinstance(found, list) else found  # type: ignore[no-any-return]

        inspect(names, get, form)


@image.command("pull")
@click.option("-q", "--quiet", is_flag=True, help="Only the name.")
@click.option("--platform", default="", help="os/arch[/variant].")
@click.argument("name")
def pull(quiet: bool, platform: str, name: str) -> None:
    """Pull an image from its registry."""
    chosen = settings()
    with chosen.client() as client, chosen.display("Pulling", quiet=quiet) as display:
        pull_image(client, name, platform, display)
    print(name)


@image.command("load")
@click.option("-i", "--input", "source", default="-", metavar="FILE", help="Archive; default standard input.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def load(source: str, quiet: bool) -> None:
    """Load images from an archive (docker save, or an OCI layout)."""
    with settings().client() as client, _open(source) as file:
        requests = (image_pb2.LoadImagesRequest(data=data) for data in _chunks(file))
        for answer in client.images.LoadImages(requests):
            for one in answer.images:
                for name in one.references or [one.id]:
                    print(f"Loaded image: {name}")


@image.command("save")
@click.option("-o", "--output", metavar="FILE", help="File to write; default standard output.")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def save(output: str | None, names: tuple[str, ...]) -> None:
    """Write images to an archive."""
    if output is None and sys.stdout.isatty():
        raise UsageError("an archive is nothing for a terminal; use -o FILE, or redirect the output")
    with settings().client(start=False) as client:
        answers = iter(client.images.SaveImages(image_pb2.SaveImagesRequest(images=names)))
        # the first answer tells whether there will be an archive
        first = next(answers, None)
        with open(output, "wb") if output else os.fdopen(os.dup(1), "wb") as file:
            if first is not None:
                file.write(first.data)
            for answer in answers:
                file.write(answer.data)


@image.command("import")
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help='e.g. "CMD nginx".')
@click.option("-m", "--message", default="", help="Comment of the image.")
@click.option("--platform", default="", help="os/arch[/variant].")
@click.argument("source", metavar="FILE|-")
@click.argument("reference", required=False, default="")
def import_(changes: tuple[str, ...], message: str, platform: str, source: str, reference: str) -> None:
    """Make an image from the tar of a root file system."""
    if source.startswith(("http://", "https://")):
        raise CliError("import reads files; fetch it first: curl URL | pycompose image import - NAME")
    start = image_pb2.ImportImageStart(reference=reference, changes=changes, message=message, platform=platform)
    with settings().client() as client, _open(source) as file:

        def requests() -> Iterator[image_pb2.ImportImageRequest]:
            yield image_pb2.ImportImageRequest(start=start)
            for data in _chunks(file):
                yield image_pb2.ImportImageRequest(data=data)

        print(client.images.ImportImage(requests()).image.id)


@image.command("tag")
@click.argument("source")
@click.argument("target")
def tag(source: str, target: str) -> None:
    """Give an image a further name."""
    with settings().client(start=False) as client:
        client.images.TagImage(image_pb2.TagImageRequest(image=source, reference=target))


@image.command("rm")
@click.option("-f", "--force", is_flag=True, help="Also when a container uses it.")
@click.option("--no-prune", is_flag=True, hidden=True)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def rm(force: bool, no_prune: bool, names: tuple[str, ...]) -> None:
    """Remove images."""
    with settings().client(start=False) as client:

        def remove(name: str) -> None:
            answer = client.images.RemoveImage(image_pb2.RemoveImageRequest(image=name, force=force))
            for one in answer.untagged:
                print(f"Untagged: {one}")
            for one in answer.deleted:
                print(f"Deleted: {one}")

        each(names, remove, say=False)


@image.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="All that no container uses.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def prune(everything: bool, force: bool) -> None:
    """Remove images that nothing uses."""
    if not force:
        what = "all images that no container uses" if everything else "all images without a name"
        confirm(f"remove {what}?", "--force")
    with settings().client(start=False) as client:
        answer = client.images.PruneImages(image_pb2.PruneImagesRequest(all=everything))
    for one in answer.deleted:
        print(f"Deleted: {one}")
    print(f"Total reclaimed space: {words.size(answer.reclaimed_bytes)}")


def _open(source: str) -> BinaryIO:
    if source == "-":
        if sys.stdin.isatty():
            raise UsageError("want an archive on standard input; use -i FILE, or redirect the input")
        return os.fdopen(os.dup(0), "rb")
    return open(source, "rb")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(CHUNK):
        yield data
