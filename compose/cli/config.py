"""`pycompose config`: the project as it is understood, in Docker Compose's words."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from pycompose.compose.cli.errors import UsageError
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import settings
from pycompose.compose.loader import Model, Project

_LISTS = (
    "services",
    "volumes",
    "networks",
    "models",
    "hash",
    "profiles",
    "images",
    "variables",
    "environment",
    "explain",
)


@command()
@click.argument("services", nargs=-1)
@click.option("--format", "form", help="yaml or json; with --variables also table.")
@click.option("-o", "--output", metavar="FILE", help="Write to a file.")
@click.option("-q", "--quiet", is_flag=True, help="Only check.")
@click.option("--services", "list_services", is_flag=True, help="Print the names of services.")
@click.option("--volumes", "list_volumes", is_flag=True, help="Print the names of volumes.")
@click.option("--networks", "list_networks", is_flag=True, help="Print the names of networks.")
@click.option("--models", "list_models", is_flag=True, help="Print the models.")
@click.option("--images", "list_images", is_flag=True, help="Print the images.")
@click.option("--profiles", "list_profiles", is_flag=True, help="Print the names of profiles.")
@click.option("--variables", "list_variables", is_flag=True, help="Print the variables that the files refer to.")
@click.option("--environment", "list_environment", is_flag=True, help="Print the variables used for interpolation.")
@click.option("--hash", "list_hash", metavar="SERVICES", help='Print a hash of services; "*" for all.')
@click.option("--explain", "list_explain", is_flag=True, help="Print where values come from, and what they replaced.")
@click.option("--no-consistency", is_flag=True, help="Skip the check of references.")
@click.option("--no-env-resolution", is_flag=True, help="Leave env_file alone.")
@click.option("--no-interpolate", is_flag=True, help="Leave variables alone.")
@click.option("--no-normalize", is_flag=True, help="Leave defaults out.")
@click.option("--no-path-resolution", is_flag=True, help="Leave relative paths alone.")
@click.option("--resolve-image-digests", is_flag=True, help="Pin the images' tags to digests.")
@click.option("--lock-image-digests", is_flag=True, help="Print an override file with the images' digests.")
def config(services: tuple[str, ...], **flags: Any) -> None:
    """Check the Compose file and print it as it is understood."""
    wanted = next((name for name in _LISTS if flags[f"list_{name}"]), None)
    if wanted == "variables" or (flags["no_interpolate"] and wanted in (None, "services")):
        text = _of_model(_model(flags), wanted, flags)
    else:
        named = () if wanted in ("services", "volumes", "networks", "models", "hash") else services
        text = _of_project(_project(named, flags, wanted), wanted, flags)
    if flags["quiet"]:
        return
    _write(text, flags["output"] if wanted is None else None)


def _project(services: tuple[str, ...], flags: dict[str, Any], wanted: str | None) -> Project:
    return settings().load(
        services,
        interpolate=not flags["no_interpolate"],
        normalise=not flags["no_normalize"],
        resolve_paths=not flags["no_path_resolution"],
        check_consistency=not flags["no_consistency"],
        all_env_files=True,
        resolve_environment=not flags["no_env_resolution"] and wanted in (None, "environment", "explain"),
    )


def _model(flags: dict[str, Any]) -> Model:
    return settings().load_model(normalise=not flags["no_normalize"], resolve_paths=not flags["no_path_resolution"])


def _of_model(model: Model, wanted: str | None, flags: dict[str, Any]) -> str:
    """Return what is asked of the files that were not interpolated."""
    from pycompose.compose.loader import render_model

    if wanted == "services":
        return _lines(sorted(model.tree.get("services") or ()))
    if wanted == "variables":
        from pycompose.compose.cli.variables import table_of_variables

        return table_of_variables(model.tree, flags["form"])
    form = _form(flags["form"])
    if flags["resolve_image_digests"] or flags["lock_image_digests"]:
        from pycompose.compose.cli.digests import only_images, pin_model

        pin_model(model)
        if flags["lock_image_digests"]:
            only_images(model)
    return render_model(model, form)


def _of_project(project: Project, wanted: str | None, flags: dict[str, Any]) -> str:
    """Return what is asked of the project."""
    from pycompose.compose.loader import check_names, explain, render_json, render_yaml, service_hashes

    model = project.model
    match wanted:
        case "services":
            return _lines(project.services)
        case "volumes" | "networks":
            return _lines(sorted(model.get(wanted) or ()))
        case "models":
            return _lines(one["model"] for one in (model.get("models") or {}).values() if one.get("model"))
        case "profiles":
            everything = [*project.services.values(), *project.disabled_services.values()]
            return _lines(sorted({name for service in everything for name in service.get("profiles") or ()}))
        case "images":
            return _lines(one.get("image") or f"{project.name}-{name}" for name, one in project.services.items())
        case "explain":
            return explain(project, os.getcwd())
        case "environment":
            return _lines(sorted(f"{key}={value}" for key, value in project.environment.items()))
        case "hash":
            hashes = service_hashes(project)
            names = list(hashes) if flags["list_hash"] == "*" else sorted(flags["list_hash"].split(","))
            for name in names:
                if name not in hashes:
                    raise UsageError(f"--hash {name}: no such service; the file has {', '.join(hashes)}")
            return _lines(f"{name} {hashes[name]}" for name in names)
    if not flags["no_consistency"]:
        check_names(project)
    form, escape = _form(flags["form"]), not flags["no_interpolate"]
    if flags["resolve_image_digests"] or flags["lock_image_digests"]:
        from pycompose.compose.cli.digests import images_only, pinned

        project = pinned(project)
        project = images_only(project, form) if flags["lock_image_digests"] else project
    return render_json(project, escape=escape) if form == "json" else render_yaml(project, escape=escape)


def _form(form: str | None) -> str:
    if form not in (None, "yaml", "json"):
        raise UsageError(f"--format {form}: config prints yaml or json")
    return form or "yaml"


def _lines(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


def _write(text: str, output: str | None) -> None:
    if output and settings().dry_run:
        settings().would([f"write {output}"])
    elif output:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text if text.endswith("\n") or not sys.stdout.isatty() else f"{text}\n")
