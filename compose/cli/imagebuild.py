"""`image build`: an image from a folder with a Dockerfile, without a project."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from pycompose.compose.cli.buildstep import build_with, pairs
from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings

T = TypeVar("T")
IMAGE = "docker-image://"


@command("build")
@click.argument("path", metavar="PATH")
@click.option("-f", "--file", "dockerfile", metavar="FILE", help="Default PATH/Dockerfile; - for stdin.")
@click.option("-t", "--tag", "tags", multiple=True, metavar="NAME[:TAG]", help="Name of the image.")
@click.option("--build-arg", "args", multiple=True, metavar="KEY=VALUE", help="Set a variable of the build.")
@click.option(
    "--build-context", "contexts", multiple=True, metavar="NAME=PATH", help="A folder or docker-image://NAME."
)
@click.option("--target", default="", metavar="STAGE", help="Build up to this stage.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Set a label.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="id=NAME,src=FILE", help="A secret for RUN, or id=NAME,env=VAR."
)
@click.option("--no-cache", is_flag=True, help="Take no step from the cache.")
@click.option("--no-cache-filter", "stages", multiple=True, metavar="STAGE", help="Build a stage anew.")
@click.option("--pull", is_flag=True, help="Ask registries for newer base images.")
@click.option("--network", default="default", metavar="MODE", help="Network of RUN: default, none or host.")
@click.option("--add-host", "hosts", multiple=True, metavar="HOST:IP", help="A line for /etc/hosts of RUN.")
@click.option("--shm-size", default="", metavar="BYTES", help="Size of /dev/shm in RUN.")
@click.option("--ulimit", "ulimits", multiple=True, metavar="NAME=SOFT[:HARD]", help="A limit of RUN.")
@click.option("--platform", default="", metavar="OS/ARCH", help="Platform of base images.")
@click.option("--allow", multiple=True, metavar="WHAT", help="Allow network.host or security.insecure to RUN.")
@click.option("--iidfile", metavar="FILE", help="Write the image's id to a file.")
@click.option("-q", "--quiet", is_flag=True, help="Print the image's id alone.")
@click.option("--rm", "remove", is_flag=True, default=True, hidden=True)
@click.option("--compress", is_flag=True, hidden=True)
@click.option("--disable-content-trust", is_flag=True, default=True, hidden=True)
@click.option("--force-rm", is_flag=True, hidden=True)
def build(
    path: str,
    dockerfile: str | None,
    tags: tuple[str, ...],
    args: tuple[str, ...],
    contexts: tuple[str, ...],
    target: str,
    labels: tuple[str, ...],
    secrets: tuple[str, ...],
    no_cache: bool,
    stages: tuple[str, ...],
    pull: bool,
    network: str,
    hosts: tuple[str, ...],
    shm_size: str,
    ulimits: tuple[str, ...],
    platform: str,
    allow: tuple[str, ...],
    iidfile: str | None,
    quiet: bool,
    remove: bool,
    force_rm: bool,
    compress: bool,
    disable_content_trust: bool,
) -> None:
    """Build an image from a Dockerfile and the files of a folder.

    \b
    pycompose image build -t app .
    pycompose image build -t app -f deploy/Dockerfile --target test .
    """
    from pycompose.compose.builder.contexts import Folder
    from pycompose.compose.builder.ignoring import Ignored, ignored
    from pycompose.compose.builder.requests import Order
    from pycompose.compose.loader.units import parse_bytes
    from pycompose.proto.patterns import Patterns
    from pycompose.proto.v1 import build_pb2

    if not os.path.isdir(path):
        raise CliError(f"{path} is not there, or is no folder; give the folder that holds the files")
    file = dockerfile or os.path.join(path, "Dockerfile")
    start = build_pb2.BuildStart(
        dockerfile=_told(lambda: sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes(), file),
        dockerfile_name="Dockerfile" if file == "-" else file,
        target=target,
        args=pairs("--build-arg", args, from_caller=True),
        tags=tags,
        labels=pairs("--label", labels),
        platform=platform,
        no_cache=no_cache,
        no_cache_stages=stages,
        pull=pull,
        network=network,
        extra_hosts=[line.replace("=", ":", 1) for line in hosts],
        ulimits=ulimits,
        entitlements=allow,
    )
    if shm_size:
        start.shm_size_bytes = _told(lambda: parse_bytes(shm_size), f"--shm-size {shm_size}")
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    start.source_date_epoch = int(epoch) if epoch.isdecimal() else 0
    start.contexts.add(name="")
    folders = {"": Folder(path, ignored(_text, path, file))}
    for name, value in pairs("--build-context", contexts).items():
        start.contexts.add(name=name, image=value.removeprefix(IMAGE) if value.startswith(IMAGE) else "")
        if not value.startswith(IMAGE):
            folders[name] = Folder(value, Ignored(Patterns(())))
    for word in secrets:
        _secret(start.secrets.add, word)
    chosen = settings()
    if chosen.dry_run:
        chosen.would([f"build image {', '.join(tags) or 'without a name'}"])
        return
    order = Order("", tags[0] if tags else "without a name", start, folders, frozenset())
    with chosen.client() as client, chosen.display("Building", quiet=quiet) as display:
        identity = build_with(chosen, client, [order], display)[""]
    if iidfile:
        Path(iidfile).write_text(identity)
    if quiet:
        print(identity)


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


def _told(read: Callable[[], T], what: str) -> T:
    """Return what is read; CliError says what could not be."""
    try:
        return read()
    except OSError as error:
        raise CliError(f"{what}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


def _secret(add: Callable[..., object], word: str) -> None:
    fields = dict(part.partition("=")[::2] for part in word.split(","))
    source = fields.get("src") or fields.get("source")
    variable = fields.get("env")
    name = fields.get("id") or os.path.basename(source or "") or variable
    if not name:
        raise UsageError(f"--secret {word}: write id=NAME,src=FILE or id=NAME,env=VARIABLE")
    if source:
        data = _told(lambda: Path(source).read_bytes(), source)
    elif (variable or name) in os.environ:
        data = os.environ[variable or name].encode()
    else:
        raise CliError(f"--secret {word}: the variable {variable or name} is not set; set it, or give src=FILE")
    add(id=name, data=data)
