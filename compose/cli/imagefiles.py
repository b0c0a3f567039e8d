"""`image load`, `image save` and `image import`: images from files and to files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.proto.v1 import image_pb2

CHUNK = 512 << 10


@command()
@click.option("-i", "--input", "source", default="", metavar="FILE", help="Archive; default standard input.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but what was loaded.")
def load(source: str, quiet: bool) -> None:
    """Load images from an archive (of docker save, podman save or skopeo, compressed or not)."""
    chosen = settings()
    if chosen.dry_run:
        return chosen.would([f"load images from {source or 'standard input'}"])
    with chosen.client() as client, _open(source or "-", "-i FILE") as file:
        requests = (image_pb2.LoadImagesRequest(data=data) for data in _chunks(file))
        for answer in client.images.LoadImages(requests):
            for one in answer.images:
                for name in one.references:
                    print(f"Loaded image: {name}")
                if not one.references:
                    print(f"Loaded image ID: {one.id}")
    return None


@command()
@click.option("-o", "--output", default="", metavar="FILE", help="File to write; default standard output.")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def save(output: str, names: tuple[str, ...]) -> None:
    """Write images to an archive, for docker load, skopeo, or pycompose image load.

    \b
    pycompose image save -o app.tar app:1 app:2
    pycompose image save app | zstd > app.tar.zst
    """
    chosen = settings()
    if chosen.dry_run:
        return chosen.would([f"save image {name} to {output or 'standard output'}" for name in names])
    if not output and sys.stdout.isatty():
        raise UsageError("an archive is nothing for a terminal; use -o FILE, or redirect the output")
    with chosen.client(start=False) as client:
        answers = iter(client.images.SaveImages(image_pb2.SaveImagesRequest(images=names)))
        # the first answer tells whether there will be an archive
        first = next(answers, image_pb2.SaveImagesResponse())
        if not output:
            with os.fdopen(os.dup(1), "wb") as file:
                _write(file, first, answers)
            return None
        if os.path.exists(output) and not os.path.isfile(output):
            with open(output, "wb") as file:
                _write(file, first, answers)
            return None
        # what is there stays until the archive is complete
        unfinished = f"{output}.{os.getpid()}.part"
        try:
            with open(unfinished, "wb") as file:
                _write(file, first, answers)
            os.rename(unfinished, output)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise
    return None


def _write(file: BinaryIO, first: image_pb2.SaveImagesResponse, rest: Iterator[image_pb2.SaveImagesResponse]) -> None:
    file.write(first.data)
    for answer in rest:
        file.write(answer.data)


@command()
@click.option("-c", "--change", "changes", multiple=True, metavar="INSTRUCTION", help='e.g. "CMD nginx".')
@click.option("-m", "--message", default="", help="Comment of the image.")
@click.option("--platform", default="", help="os/arch[/variant].")
@click.argument("source", metavar="FILE|-")
@click.argument("reference", required=False, default="")
def import_(changes: tuple[str, ...], message: str, platform: str, source: str, reference: str) -> None:
    """Make an image from the tar of a root file system, compressed or not."""
    chosen = settings()
    if source.startswith(("http://", "https://")):
        raise CliError("import reads files; fetch it first: curl URL | pycompose image import - NAME")
    if chosen.dry_run:
        return chosen.would([f"import image {reference or NAMELESS} from {source}"])
    start = image_pb2.ImportImageStart(reference=reference, changes=changes, message=message, platform=platform)
    with chosen.client() as client, _open(source, "a file's name") as file:

        def requests() -> Iterator[image_pb2.ImportImageRequest]:
            yield image_pb2.ImportImageRequest(start=start)
            for data in _chunks(file):
                yield image_pb2.ImportImageRequest(data=data)

        print(client.images.ImportImage(requests()).image.id)
    return None


NAMELESS = "<none>"


def _open(source: str, remedy: str) -> BinaryIO:
    if source == "-":
        if sys.stdin.isatty():
            raise UsageError(f"want an archive on standard input; use {remedy}, or redirect the input")
        return os.fdopen(os.dup(0), "rb")
    return open(source, "rb")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(CHUNK):
        yield data
