"""`image pull` and `image push`."""

from __future__ import annotations

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.imagerows import canonical
from pycompose.compose.cli.inspection import split_reference
from pycompose.compose.cli.pulling import Wanted, problems, pull_all, push_all
from pycompose.compose.cli.settings import settings
from pycompose.compose.client.credentials import Wallet
from pycompose.proto.v1 import image_pb2

TRUST = click.option(
    "--disable-content-trust", is_flag=True, default=True, hidden=True, help="As Docker's; there is no other."
)


@command()
@click.option("-a", "--all-tags", is_flag=True, help="All tags of the repository.")
@click.option("--platform", default="", metavar="OS/ARCH", help="In place of the node's platform.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the name.")
@TRUST
@click.argument("name", metavar="NAME[:TAG|@DIGEST]")
def pull(all_tags: bool, platform: str, quiet: bool, disable_content_trust: bool, name: str) -> None:
    """Pull an image from its registry."""
    chosen = settings()
    repository, tag = split_reference(name)
    if all_tags and (tag != "latest" or name.endswith(":latest")):
        raise UsageError(f"-a pulls all tags; leave {tag if '@' not in name else 'the digest'} out")
    if chosen.dry_run:
        return chosen.would([f"pull image {name}" + (", all its tags" if all_tags else "")])
    wallet = Wallet()
    with chosen.client() as client, chosen.display("Pulling", quiet=quiet) as display:
        wanted = [Wanted(name, platform)]
        if all_tags:
            request = image_pb2.ListRegistryTagsRequest(repository=repository, credentials=wallet.of(repository))
            tags = client.images.ListRegistryTags(request).tags
            wanted = [Wanted(f"{repository}:{each}", platform) for each in tags]
        done = pull_all(client, wanted, wallet, display, chosen.at_once)
    for one, transfer in done.items():
        if transfer.answer is None:
            continue
        if not quiet:
            newer = transfer.answer.previous_image_id != transfer.answer.image.id
            print(f"Digest: {transfer.answer.digest}")
            print(f"Status: {'Downloaded newer image' if newer else 'Image is up to date'} for {one.reference}")
        print(canonical(one.reference))
    errors = list(problems(done, lambda one, error: f"image {one.reference} cannot be pulled: {error}"))
    if errors:
        raise CliError("\n".join(errors))
    return None


@command()
@click.option("-a", "--all-tags", is_flag=True, help="All tags of the repository that the node has.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the name.")
@TRUST
@click.argument("name", metavar="NAME[:TAG]")
def push(all_tags: bool, quiet: bool, disable_content_trust: bool, name: str) -> None:
    """Push an image to the registry that its name says."""
    chosen = settings()
    repository, tag = split_reference(name)
    if all_tags and (tag != "latest" or name.endswith(":latest")):
        raise UsageError(f"-a pushes all tags; leave {tag} out")
    with chosen.client(start=False) as client, chosen.display("Pushing", quiet=quiet) as display:
        names = [name]
        if all_tags:
            images = client.images.ListImages(image_pb2.ListImagesRequest()).images
            full = canonical(repository).rpartition(":")[0]
            listed = [each for one in images for each in one.references]
            names = sorted(each for each in listed if canonical(each).rpartition(":")[0] == full)
            if not names:
                raise CliError(f"no image here is of the repository {repository}; see pycompose image ls")
        if chosen.dry_run:
            return chosen.would(f"push image {each}" for each in names)
        done = push_all(client, names, Wallet(), display)
    for each, transfer in done.items():
        if transfer.answer is not None and quiet:
            print(canonical(each))
        elif transfer.answer is not None:
            what = split_reference(each)[1]
            print(f"{what}: digest: {transfer.answer.digest} size: {transfer.answer.manifest_bytes}")
    errors = list(problems(done, lambda each, error: f"image {each} cannot be pushed: {error}"))
    if errors:
        raise CliError("\n".join(errors))
    return None
