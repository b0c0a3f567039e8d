"""A service's `build:` section as the API's request, and the folders whose files it may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pycompose.compose.builder.contexts import Folder
from pycompose.compose.builder.ignoring import Ignored, ignored
from pycompose.compose.convert.problems import Problems
from pycompose.compose.loader import Project
from pycompose.compose.loader.remotes import is_remote
from pycompose.proto.patterns import Patterns
from pycompose.proto.v1 import build_pb2

SERVICE, IMAGE = "service:", "docker-image://"


@dataclass(frozen=True)
class Overrides:
    """What the command line says in place of the file. `args`: without a value the caller's variable is meant."""

    args: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    pull: bool = False


@dataclass(frozen=True)
class Order:
    """One image to be built.

    Attributes:
        service: its service; "" for an image of no project.
        image: its name.
        request: for the node.
        folders: of this machine, by the context's name.
        after: services whose images it builds upon.
    """

    service: str
    image: str
    request: build_pb2.BuildStart
    folders: Mapping[str, Folder]
    after: frozenset[str]

    @property
    def title(self) -> str:
        """What people call it."""
        return self.service or self.image


def image_of(project: Project, name: str) -> str:
    """Return the name of a service's image: as the file has it, else the project's and the service's."""
    return str(entry_of(project, name).get("image") or f"{project.name}-{name}")


def entry_of(project: Project, name: str) -> Mapping[str, Any]:
    """Return a service's entry, also of one that is not brought up now: another may build upon it."""
    found: Mapping[str, Any] = project.services[name] if name in project.services else project.disabled_services[name]
    return found


def order_of(
    project: Project,
    name: str,
    overrides: Overrides,
    problems: Problems,
    read: Callable[[str], bytes],
) -> Order | None:
    """Return what a service's section asks for; None, with the reasons in `problems`, when that cannot be done.

    Args:
        read: gives a file's bytes. Raises OSError.
    """
    service, path = entry_of(project, name), ("services", name, "build")
    build = service["build"]
    image = image_of(project, name)
    start = build_pb2.BuildStart(tags=[image, *(build.get("tags") or ())])
    context, folders, after = _contexts(project, build, path, start, problems)
    dockerfile = _dockerfile(build, context, path, start, problems, read)
    if dockerfile is None:
        return None
    folders[""] = Folder(context, _ignored(context, dockerfile, read)) if context else Folder("", Ignored(Patterns(())))
    if not context:
        del folders[""]
    start.target = build.get("target") or ""
    start.args.update({key: str(value) for key, value in (build.get("args") or {}).items() if value is not None})
    start.args.update(overrides.args)
    start.labels.update({key: str(value) for key, value in (build.get("labels") or {}).items()})
    start.no_cache = bool(build.get("no_cache")) or overrides.no_cache
    start.pull = bool(build.get("pull")) or overrides.pull
    start.network = build.get("network") or ""
    start.extra_hosts.extend(line.replace("=", ":", 1) for line in build.get("extra_hosts") or ())
    start.shm_size_bytes = int(build.get("shm_size") or 0)
    start.entitlements.extend(build.get("entitlements") or ())
    if build.get("privileged"):
        start.entitlements.append("security.insecure")
    for limit, value in (build.get("ulimits") or {}).items():
        soft, hard = (value["soft"], value["hard"]) if isinstance(value, dict) else (value, value)
        start.ulimits.append(f"{limit}={soft}:{hard}")
    _platform(service, build, path, start, problems)
    _secrets(project, build, path, start, problems, read)
    _unsupported(build, path, problems)
    epoch = project.environment.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal():
        start.source_date_epoch = int(epoch)
    return Order(name, image, start, folders, frozenset(after))


def _contexts(
    project: Project, build: Mapping[str, Any], path: tuple[str, ...], start: build_pb2.BuildStart, problems: Problems
) -> tuple[str, dict[str, Folder], set[str]]:
    """Return the folder of the build's own context, and those of the others; the request names them."""
    after: set[str] = set()
    folders: dict[str, Folder] = {}
    context = _folder(build.get("context") or "", (*path, "context"), problems)
    if context:
        start.contexts.add(name="")
    for name, value in (build.get("additional_contexts") or {}).items():
        where = (*path, "additional_contexts", name)
        if value.startswith(SERVICE):
            other = value.removeprefix(SERVICE)
            after.add(other)
            start.contexts.add(name=name, image=image_of(project, other))
        elif value.startswith(IMAGE):
            start.contexts.add(name=name, image=value.removeprefix(IMAGE))
        else:
            folder = _folder(value, where, problems)
            start.contexts.add(name=name)
            folders[name] = Folder(folder, Ignored(Patterns(())))
    return context, folders, after


def _folder(text: str, where: tuple[str | int, ...], problems: Problems) -> str:
    if not text:
        return ""
    if is_remote(text):
        problems.error(where, f"{text}: a context elsewhere is not fetched yet", "clone it, and give its folder")
        return ""
    if not os.path.isdir(text):
        problems.error(where, f"{text} is not there, or is no folder", "give the folder that holds the files")
        return ""
    return text


def _dockerfile(
    build: Mapping[str, Any],
    context: str,
    path: tuple[str, ...],
    start: build_pb2.BuildStart,
    problems: Problems,
    read: Callable[[str], bytes],
) -> str | None:
    """Fill in the Dockerfile; returns its path, "" for one that the file itself holds, None when there is none."""
    if build.get("dockerfile_inline"):
        start.dockerfile, start.dockerfile_name = build["dockerfile_inline"].encode(), "dockerfile_inline"
        return ""
    named = build.get("dockerfile")
    found = os.path.join(context, named or "Dockerfile")
    try:
        start.dockerfile = read(found)
    except OSError as error:
        where = (*path, "dockerfile") if named else (*path, "context") if build.get("context") else path
        problems.error(where, f"{found}: {error.strerror}", "name the Dockerfile: build.dockerfile: FILE")
        return None
    start.dockerfile_name = named or "Dockerfile"
    return found


def _ignored(context: str, dockerfile: str, read: Callable[[str], bytes]) -> Ignored:
    def text(path: str) -> str | None:
        try:
            return read(path).decode("utf-8", "replace")
        except OSError:
            return None

    return ignored(text, context, dockerfile or os.path.join(context, "Dockerfile"))


def _platform(
    service: Mapping[str, Any],
    build: Mapping[str, Any],
    path: tuple[str, ...],
    start: build_pb2.BuildStart,
    problems: Problems,
) -> None:
    wanted = build.get("platforms") or ()
    start.platform = service.get("platform") or (wanted[0] if wanted else "")
    if len(wanted) > 1 and not service.get("platform"):
        problems.error(
            (*path, "platforms"), "an image for several platforms cannot be built yet", "name one, or give platform:"
        )


def _secrets(
    project: Project,
    build: Mapping[str, Any],
    path: tuple[str, ...],
    start: build_pb2.BuildStart,
    problems: Problems,
    read: Callable[[str], bytes],
) -> None:
    for index, one in enumerate(build.get("secrets") or ()):
        name = one["source"]
        entry = (project.model.get("secrets") or {}).get(name) or {}
        where: tuple[str | int, ...] = (*path, "secrets", index)
        if entry.get("file"):
            try:
                data = read(entry["file"])
            except OSError as error:
                problems.error(where, f"{entry['file']}: {error.strerror}")
                continue
        elif entry.get("environment"):
            value = project.secret_values.get(name, project.environment.get(entry["environment"]))
            if value is None:
                problems.error(where, f"the variable {entry['environment']} is not set", "set it, or give a file")
                continue
            data = value.encode()
        else:
            problems.error(where, f"the secret {name} is of the cluster; a build takes a file's or a variable's")
            continue
        start.secrets.add(id=one.get("target") or name, data=data)


def _unsupported(build: Mapping[str, Any], path: tuple[str, ...], problems: Problems) -> None:
    if build.get("ssh"):
        problems.warn((*path, "ssh"), "no ssh agent is forwarded to builds yet; use a secret")
    for key in ("cache_from", "cache_to"):
        if build.get(key):
            problems.warn((*path, key), "builds use the node's own cache; others are not read or written yet")
    for key in ("provenance", "sbom"):
        if build.get(key) not in (None, "", "false", False):
            problems.warn((*path, key), "attestations are not made yet")
    if build.get("isolation") not in (None, "", "default"):
        problems.error((*path, "isolation"), f"isolation {build['isolation']} is for Windows", "leave it out")
