"""`pycompose config`: the project as it is understood, in Docker Compose's words."""

from __future__ import annotations

import hashlib
import json
import sys

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.loader import Project


@command()
@click.argument("services", nargs=-1)
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), help="yaml, or json.")
@click.option("-o", "--output", metavar="FILE", help="Write to a file.")
@click.option("-q", "--quiet", is_flag=True, help="Only check.")
@click.option("--services", "list_services", is_flag=True, help="Print the names of services.")
@click.option("--volumes", "list_volumes", is_flag=True, help="Print the names of volumes.")
@click.option("--networks", "list_networks", is_flag=True, help="Print the names of networks.")
@click.option("--models", "list_models", is_flag=True, help="Print the names of models.")
@click.option("--images", "list_images", is_flag=True, help="Print the images.")
@click.option("--profiles", "list_profiles", is_flag=True, help="Print the names of profiles.")
@click.option("--variables", "list_variables", is_flag=True, help="Print the variables that the files refer to.")
@click.option("--environment", "list_environment", is_flag=True, help="Print the variables used for interpolation.")
@click.option("--hash", "hash_of", metavar="SERVICES", help='Print a hash of services; "*" for all.')
@click.option("--no-consistency", is_flag=True, help="Skip the check of references.")
@click.option("--no-env-resolution", is_flag=True, help="Leave env_file alone.")
@click.option("--no-interpolate", is_flag=True, help="Leave variables alone.")
@click.option("--no-normalize", is_flag=True, help="Leave defaults out.")
@click.option("--no-path-resolution", is_flag=True, help="Leave relative paths alone.")
@click.option("--resolve-image-digests", is_flag=True, hidden=True)
@click.option("--lock-image-digests", is_flag=True, hidden=True)
def config(
    services: tuple[str, ...],
    form: str | None,
    output: str | None,
    quiet: bool,
    list_services: bool,
    list_volumes: bool,
    list_networks: bool,
    list_models: bool,
    list_images: bool,
    list_profiles: bool,
    list_variables: bool,
    list_environment: bool,
    hash_of: str | None,
    no_consistency: bool,
    no_env_resolution: bool,
    no_interpolate: bool,
    no_normalize: bool,
    no_path_resolution: bool,
    resolve_image_digests: bool,
    lock_image_digests: bool,
) -> None:
    """Check the Compose file and print it as it is understood."""
    if resolve_image_digests or lock_image_digests:
        raise CliError("image digests are resolved by the node at up; config cannot do it yet")
    if list_variables:
        return _print_variables()
    project = settings().load(
        services,
        all_resources=list_volumes or list_networks or list_models,
        interpolate=not no_interpolate,
        normalise=not no_normalize,
        resolve_paths=not no_path_resolution,
        check_consistency=not no_consistency,
        resolve_environment=not no_env_resolution,
    )
    if quiet:
        return None
    if list_services:
        lines = list(project.services)
    elif list_profiles:
        everything = [*project.services.values(), *project.disabled_services.values()]
        lines = sorted({profile for service in everything for profile in service.get("profiles") or ()})
    elif list_images:
        lines = [service.get("image") or f"{project.name}-{name}" for name, service in project.services.items()]
    elif list_environment:
        lines = [f"{key}={value}" for key, value in sorted(project.environment.items())]
    elif list_volumes or list_networks or list_models:
        section = "volumes" if list_volumes else "networks" if list_networks else "models"
        lines = sorted(project.model.get(section) or ())
    elif hash_of is not None:
        lines = _hashes(project, hash_of)
    else:
        return _print_model(project, form or "yaml", output, escape=not no_interpolate)
    _write("".join(line + "\n" for line in lines), output)
    return None


def _print_model(project: Project, form: str, output: str | None, *, escape: bool) -> None:
    from pycompose.compose.loader import render_json, render_yaml

    text = render_json(project, escape=escape) + "\n" if form == "json" else render_yaml(project, escape=escape)
    _write(text, output)


def _print_variables() -> None:
    """Print NAME REQUIRED DEFAULT of each `${NAME}` in the files."""
    from pycompose.compose.cli.tables import table
    from pycompose.compose.cli.variables import variables_of

    rows = []
    for path in settings().sources():
        try:
            with open(0 if path == "-" else path, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise CliError(f"{path}: {error.strerror}; name a Compose file with -f") from None
        rows += [row for row in variables_of(text) if row not in rows]
    print(table(["NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE"], [list(row) for row in sorted(rows)]))


def _hashes(project: Project, wanted: str) -> list[str]:
    names = list(project.services) if wanted == "*" else wanted.split(",")
    lines = []
    for name in names:
        if name not in project.services:
            raise UsageError(f"--hash {name}: no such service; the file has {', '.join(project.services)}")
        text = json.dumps(project.services[name], sort_keys=True)
        lines.append(f"{name} {hashlib.sha256(text.encode()).hexdigest()}")
    return lines


def _write(text: str, output: str | None) -> None:
    if output and settings().dry_run:
        settings().would([f"write {output}"])
    elif output:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
