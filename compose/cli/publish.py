"""`publish`: the project as an artifact of a registry, in the form of `docker compose publish`."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import click

from pycompose.compose.cli import program
from pycompose.compose.cli.asking import confirm
from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command, option
from pycompose.compose.cli.saying import say
from pycompose.compose.cli.settings import Settings, settings
from pycompose.compose.loader import DiskFiles, Project, is_remote
from pycompose.compose.loader.tree import Source
from pycompose.compose.loader.yaml_source import parse


@command()
@click.argument("repository", metavar="REPOSITORY[:TAG]")
@click.option("--app", is_flag=True, help="Also copies of the images that the project refers to.")
@click.option("--oci-version", default="", metavar="VERSION", help="1.0 or 1.1 of the OCI specification.")
@click.option("--resolve-image-digests", is_flag=True, help="Pin images to digests.")
@click.option("--with-env", is_flag=True, help="Also the values of variables.")
@option("-y", "--yes", also=["--y"], is_flag=True, help="Answer every question with yes.")
def publish(
    repository: str, app: bool, oci_version: str, resolve_image_digests: bool, with_env: bool, yes: bool
) -> None:
    """Publish the project at a registry; -f oci://REPOSITORY:TAG runs it elsewhere.

    \b
    pycompose publish registry.example/team/shop:1.0
    pycompose publish --resolve-image-digests registry.example/team/shop:1.0
    """
    from pycompose.compose.client.references import parse as parse_image

    chosen = settings()
    try:
        name = parse_image(repository)
    except ValueError as error:
        raise UsageError(f"{repository}: {error}") from None
    if name.digest:
        raise UsageError(f"{repository}: a project is published under a tag; use REPOSITORY:TAG")
    if oci_version not in ("", "1.0", "1.1"):
        raise UsageError(f"--oci-version {oci_version}: want 1.0 or 1.1")
    chosen.profiles = ("*",)
    project = chosen.load(all_resources=True)
    files = _files(chosen)
    texts = {path: _text(path) for path in files}
    _publishable(project, texts)
    if not yes:
        _asked(project, texts, with_env)
    elif not with_env and any(project.env_file_values.values()):
        chosen.warn("env files are named in what is published, and do not go along; --with-env takes them")
    if chosen.dry_run:
        return chosen.would([f"publish {name}: {', '.join(os.path.basename(path) for path in files)}"])
    return _push(chosen, project, files, str(name), app, oci_version, resolve_image_digests or app, with_env)


def _files(chosen: Settings) -> list[str]:
    """Return the absolute paths of the project's files. Raises CliError."""
    sources = chosen.sources()
    for source in sources:
        if source == "-" or is_remote(source):
            raise CliError(f"{source}: only files of this machine are published; save it, and name it with -f")
    return [os.path.abspath(source) for source in sources]


def _text(path: str) -> str:
    return DiskFiles().read(path).decode("utf-8-sig")


def _publishable(project: Project, texts: dict[str, str]) -> None:
    """Refuse what would not work at the other end. Raises CliError."""
    problems = [
        f"{project.place('services', name, 'build')}it has no image that others could pull; add image: NAME"
        for name, one in project.services.items()
        if one.get("build") and not one.get("image")
    ]
    for path, text in texts.items():
        for document in parse(Source(path, text)):
            for entry in document.tree.get("include") or ():
                written = entry.get("path") if isinstance(entry, dict) else entry
                paths = [written] if isinstance(written, str) else list(written or ())
                problems += [
                    f"{path}: include: {one} is a file of this machine; only remote files can be included in what is "
                    "published: publish it by itself, or give it with -f"
                    for one in paths
                    if not is_remote(one)
                ]
    if problems:
        raise CliError("\n".join(problems))


def _asked(project: Project, texts: dict[str, str], with_env: bool) -> None:
    """Show what could be meant for nobody else, and ask. Raises CliError, Exit."""
    binds = [
        f"{project.place('services', name, 'volumes', index)}{one.get('source')}"
        for name, service in project.services.items()
        for index, one in enumerate(service.get("volumes") or ())
        if one.get("type") == "bind"
    ]
    _ask("These folders of this machine are mounted; their names are published, not their content:", binds)
    _ask("This looks like secrets, and is published:", _secrets(project, texts))
    declared = _declared(project)
    if declared and not with_env:
        lines = "\n".join(f"  {line}" for line in declared)
        raise CliError(
            f"variables are set, and may be meant for nobody else:\n{lines}\n"
            "allow it with --with-env, or take them out of the files"
        )
    _ask("These variables are published:", declared)


def _ask(title: str, lines: list[str]) -> None:
    if lines:
        say("\n".join([title, *(f"  {line}" for line in lines)]))
        confirm("Publish it all the same?", "-y")


def _declared(project: Project) -> list[str]:
    """Return what of the environment the files set, by its place; values are not shown."""
    found = []
    for name, service in project.services.items():
        place = project.place("services", name, "environment")
        from_files = project.env_file_values.get(name) or {}
        own = sorted(key for key in service.get("environment") or () if key not in from_files)
        found += [f"{place}{', '.join(own)}"] if own else []
        if from_files:
            found.append(f"{project.place('services', name, 'env_file')}{', '.join(sorted(from_files))}")
    for name, config in (project.model.get("configs") or {}).items():
        if config.get("environment"):
            found.append(f"{project.place('configs', name, 'environment')}{config['environment']}")
    return found


def _secrets(project: Project, texts: dict[str, str]) -> list[str]:
    """Return places that look like secrets: in the files, in env files, and in what secrets and configs are made of."""
    from pycompose.compose.remote.sensitive import findings

    looked = dict(texts)
    paths = [one.file for defined in project.env_file_values.values() for many in defined.values() for one in many]
    for section in ("configs", "secrets"):
        paths += [one.get("file") for one in (project.model.get(section) or {}).values()]
    for path in paths:
        if path and path not in looked:
            try:
                looked[path] = DiskFiles().read(path).decode("utf-8", "replace")
            except OSError:
                continue
    return [f"{path}:{one.line}: {one.key}: {one.kind}" for path, text in looked.items() for one in findings(text)]


def _push(
    chosen: Settings,
    project: Project,
    files: list[str],
    name: str,
    app: bool,
    oci_version: str,
    resolve: bool,
    with_env: bool,
) -> None:
    from pycompose.compose.cli.digests import images_only, pinned
    from pycompose.compose.cli.pulling import problems, push_all
    from pycompose.compose.client.credentials import Wallet
    from pycompose.compose.loader import render_yaml
    from pycompose.compose.remote.artifacts import EMPTY_CONFIG, NOTE_VERSION, PROJECT
    from pycompose.compose.remote.bundle import Bundle, layer_of
    from pycompose.proto.v1 import image_pb2

    wallet, version = Wallet(), program.FOLLOWED
    bundle = Bundle(DiskFiles().read, project.working_dir, project.environment, version)
    layers = bundle.layers(files, with_env)
    built = list(dict.fromkeys(one["image"] for one in project.services.values() if one.get("build")))
    with chosen.client() as client, chosen.display("Publishing") as display:
        if built:
            done = push_all(client, built, wallet, display)
            for problem in problems(done, lambda one, error: f"image {one} is not pushed: {error}"):
                chosen.warn(problem)
        images: list[str] = []
        if resolve:
            project = pinned(project)
            override = render_yaml(images_only(project, "yaml"))
            layers.append(layer_of("image-digests.yaml", override.encode(), version))
            images = sorted({one["image"] for one in project.services.values() if one.get("image")})
        display.set(name, "Publishing")
        request = image_pb2.PushArtifactRequest(
            reference=name,
            type=PROJECT,
            config_type=EMPTY_CONFIG,
            oci_version=oci_version,
            layers=layers,
            annotations={
                "org.opencontainers.image.created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                NOTE_VERSION: version,
            },
            images=[_image(one, wallet) for one in images] if app else (),
            credentials=wallet.of(name),
        )
        digest = client.images.PushArtifact(request).digest
        display.set(name, "Published", digest[:19], "done")
    print(f"{name}@{digest}")


def _image(pinned: str, wallet: Any) -> Any:
    """Return an image to copy: by its digest alone, which is what a tag beside it meant."""
    from pycompose.compose.client.references import parse as parse_image
    from pycompose.proto.v1 import image_pb2

    name, _, digest = pinned.partition("@")
    reference = f"{parse_image(name).repository}@{digest}"
    return image_pb2.ArtifactImage(reference=reference, credentials=wallet.of(reference))
