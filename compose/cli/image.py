"""`image`: images of the node."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from pycompose.compose.cli import imagerows, words
from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import LISTS, group
from pycompose.compose.cli.imagebuild import build
from pycompose.compose.cli.imagefiles import import_, load, save
from pycompose.compose.cli.imageregistry import pull, push
from pycompose.compose.cli.listing import Listing, listing
from pycompose.compose.cli.logprint import parse_time
from pycompose.compose.cli.objects import each, filters, has_labels, inspect
from pycompose.compose.cli.settings import settings
from pycompose.compose.cli.tables import show
from pycompose.compose.client import Client
from pycompose.proto.v1 import image_pb2

COLUMNS = {"Repository": "REPOSITORY", "Tag": "TAG", "ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE"}
WITH_DIGESTS = {"Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", **COLUMNS}
HISTORY = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


@group(aliases={**LISTS, "rmi": "rm"})
def image() -> None:
    """Manage images."""


for _command, _name in (
    (build, "build"),
    (pull, "pull"),
    (push, "push"),
    (load, "load"),
    (save, "save"),
    (import_, "import"),
):
    image.add_command(_command, _name)


@image.command("ls")
@click.option("-a", "--all", is_flag=True, help="As Docker's; there are no hidden images.")
@click.option("--digests", is_flag=True, help="Also digests.")
@listing("before", "dangling", "label", "reference", "since", short=True)
@click.argument("reference", required=False, default="", metavar="[REPOSITORY[:TAG]]")
def ls(all: bool, digests: bool, reference: str, listing_: Listing) -> None:
    """List images.

    \b
    pycompose image ls redis
    pycompose image ls --filter dangling=true -q
    """
    wanted = dict(listing_.wanted)
    if reference:
        wanted["reference"] = [*wanted.get("reference", ()), reference]
    with settings().client(start=False) as client:
        images = client.images.ListImages(image_pb2.ListImagesRequest()).images
        before, after = (_built(client, wanted.get(key)) for key in ("before", "since"))
    chosen = imagerows.wanted(images, wanted, before, after)
    now = time.time()
    rows = []
    for one in chosen:
        if has_labels(one.labels, wanted.get("label", ())):
            rows += imagerows.rows(one, now, digests=digests or ".Digest" in listing_.form)
    for row in rows:
        row["ID"] = listing_.id(row["ID"])
    listing_.print(rows, WITH_DIGESTS if digests else COLUMNS)


def _built(client: Client, names: list[str] | None) -> int | None:
    """Return when the image of a before or since filter was built, in ns since the epoch."""
    if not names:
        return None
    found = client.images.InspectImage(image_pb2.InspectImageRequest(image=names[-1])).image
    return int(found.created_at.ToNanoseconds())


@image.command("inspect")
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
@click.option("-f", "--format", "form", metavar="TEMPLATE", help="A template, or json.")
def inspect_(names: tuple[str, ...], form: str | None) -> None:
    """Print images as JSON."""
    with settings().client(start=False) as client:

        def get(name: str) -> dict[str, Any]:
            answer = client.images.InspectImage(image_pb2.InspectImageRequest(image=name))
            found: dict[str, Any] = json.loads(answer.json)
            return found

        inspect(names, get, form)


@image.command("history")
@click.option(
    "--format", "form", default="table", metavar="FORM", help="table, json (an array), ndjson, or a template."
)
@click.option("-H", "--human", is_flag=True, default=True, help="Sizes and times for people (default true).")
@click.option("--no-trunc", is_flag=True, help="Cut nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.argument("name", metavar="IMAGE")
def history(form: str, human: bool, no_trunc: bool, quiet: bool, name: str) -> None:
    """Show how an image was built."""
    with settings().client(start=False) as client:
        steps = client.images.GetImageHistory(image_pb2.GetImageHistoryRequest(image=name)).steps
    rows = [imagerows.step(one, time.time(), human=human, whole=no_trunc) for one in steps]
    if quiet:
        print("\n".join(row["ID"] for row in rows))
    elif rows:
        print(show(form, rows, HISTORY, whole=True))


@image.command("tag")
@click.argument("source")
@click.argument("target")
def tag(source: str, target: str) -> None:
    """Give an image a further name."""
    chosen = settings()
    if chosen.dry_run:
        return chosen.would([f"give image {source} the name {target}"])
    with chosen.client(start=False) as client:
        client.images.TagImage(image_pb2.TagImageRequest(image=source, reference=target))
    return None


@image.command("rm")
@click.option("-f", "--force", is_flag=True, help="Also when a container uses it, or it has more names.")
@click.option("--no-prune", is_flag=True, hidden=True)
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...")
def rm(force: bool, no_prune: bool, names: tuple[str, ...]) -> None:
    """Remove images: a name, and with its last name the image."""
    chosen = settings()
    if chosen.dry_run:
        return chosen.would(f"remove image {name}" for name in names)
    with chosen.client(start=False) as client:

        def remove(name: str) -> None:
            answer = client.images.RemoveImage(image_pb2.RemoveImageRequest(image=name, force=force))
            for one in answer.untagged:
                print(f"Untagged: {one}")
            for one in answer.deleted:
                print(f"Deleted: {one}")

        each(names, remove, say=False)
    return None


@image.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="All that no container uses.")
@click.option("--filter", "filter_words", multiple=True, metavar="KEY=VALUE", help="By until, label, label!.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def prune(everything: bool, filter_words: tuple[str, ...], force: bool) -> None:
    """Remove images that nothing uses.

    \b
    pycompose image prune -a --filter until=240h     older than ten days
    pycompose image prune -a --filter label!=keep
    """
    chosen = settings()
    request = image_pb2.PruneImagesRequest(all=everything)
    wanted = filters(
        [word.replace("label!=", "not-label=", 1) for word in filter_words], ("until", "label", "not-label")
    )
    request.labels.extend(wanted.get("label", ()))
    request.without_labels.extend(wanted.get("not-label", ()))
    for text in wanted.get("until", ()):
        try:
            request.created_before.FromNanoseconds(parse_time(text, time.time()))
        except ValueError:
            raise UsageError(f"--filter until={text}: want an age (240h) or a time (2024-05-06T07:08:09Z)") from None
    what = "all images that no container uses" if everything else "all images without a name"
    if chosen.dry_run:
        return chosen.would([f"remove {what}"])
    if not force:
        confirm(f"remove {what}?", "--force")
    with chosen.client(start=False) as client:
        answer = client.images.PruneImages(request)
    for one in answer.deleted:
        print(f"Deleted: {one}")
    print(f"Total reclaimed space: {words.size(answer.reclaimed_bytes)}")
    return None
