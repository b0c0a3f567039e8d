"""Services of an outside provider: a program brings them up and takes them down (`provider:` in the file).

The protocol is Docker Compose's (docs/extension.md there). The program is a plugin of Docker's command line,
`docker-TYPE`, or `TYPE` on the PATH, and is called as

    PROGRAM compose --project-name=PROJECT up|down --OPTION=VALUE … SERVICE

It writes JSON objects to its standard output: {"type": "info"|"error"|"debug"|"setenv", "message": TEXT}. A variable
KEY=VALUE of `setenv` is given as SERVICE_KEY to the services that depend on this one. `PROGRAM compose metadata` may
tell which options it knows. What a program set is kept with the project, so that `plan` need not run it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pycompose.compose.cli.display import Display
from pycompose.compose.cli.errors import CliError
from pycompose.compose.convert import Desired
from pycompose.compose.labels import PROVIDED
from pycompose.compose.loader import Project
from pycompose.proto.v1 import project_pb2

PLUGIN_FOLDERS = (
    "~/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


def up(project: Project, desired: Desired, display: Display) -> None:
    """Run the providers' programs, and give what they set to the services that depend on them.

    Raises:
        CliError: one failed, or is not there.
    """
    for name in desired.providers:
        label = f"Provider {name}"
        display.set(label, "Creating")
        variables = _run(project, name, "up", display, label)
        display.set(label, "Created", state="done")
        _give(project, desired, name, variables)


def remember(project: Project, desired: Desired, known: project_pb2.Project | None) -> None:
    """Give services what providers set the last time, without running them."""
    for name in desired.providers:
        text = known.spec.labels.get(PROVIDED + name, "{}") if known is not None else "{}"
        _give(project, desired, name, json.loads(text))


def down(project: Project, services: Sequence[str], display: Display) -> None:
    """Run the providers' programs to take their services down.

    Raises:
        CliError: one failed, or is not there.
    """
    for name, service in project.services.items():
        if service.get("provider") and (not services or name in services):
            label = f"Provider {name}"
            display.set(label, "Removing")
            _run(project, name, "down", display, label)
            display.set(label, "Removed", state="done")


def _give(project: Project, desired: Desired, name: str, variables: Mapping[str, str]) -> None:
    """Set a provider's variables in the services that depend on it; what these say themselves goes first."""
    if variables:
        desired.project.labels[PROVIDED + name] = json.dumps(variables, sort_keys=True)
    prefix = name.upper() + "_"
    for other, spec in desired.services.items():
        if name not in (project.services[other].get("depends_on") or {}):
            continue
        env = spec.task.container.env
        have = {word.partition("=")[0] for word in env}
        env.extend(f"{prefix}{key}={value}" for key, value in sorted(variables.items()) if prefix + key not in have)


def _run(project: Project, name: str, verb: str, display: Display, label: str) -> dict[str, str]:
    """Run one program to its end; return the variables that it set."""
    provider = project.services[name]["provider"]
    program = find(provider["type"], _place(project, name))
    environment = {**os.environ, **project.environment}
    arguments = arguments_of(project.name, name, verb, provider, _metadata(program, environment), _place(project, name))
    try:
        child = subprocess.Popen(
            [program, *arguments], stdout=subprocess.PIPE, stderr=None, env=environment, text=True, errors="replace"
        )
    except OSError as error:
        raise CliError(f"{_place(project, name)}: {program}: {error.strerror}") from None
    variables: dict[str, str] = {}
    problems: list[str] = []
    with child:
        assert child.stdout is not None
        for line in child.stdout:
            read(line, variables, problems, lambda text: display.set(label, "Working", text))
            display.tick()
    if child.returncode and not problems:
        problems.append(f"exit status {child.returncode}")
    if problems:
        display.set(label, "Error", problems[0], "failed")
        raise CliError(f"{_place(project, name)}: provider {provider['type']}: {'; '.join(problems)}")
    return variables


def read(line: str, variables: dict[str, str], problems: list[str], tell: Callable[[str], None]) -> None:
    """Take in one line of a program: a variable, a problem, or what it tells."""
    if not line.strip():
        return
    try:
        message = json.loads(line)
        kind, text = message["type"], str(message["message"])
    except (ValueError, KeyError, TypeError):
        problems.append(f"it wrote what is no message: {line.strip()[:200]}")
        return
    if kind == "setenv":
        key, equals, value = text.partition("=")
        if not equals:
            problems.append(f"it set a variable without a value: {text}")
        variables[key] = value
    elif kind == "error":
        problems.append(text)
    elif kind == "info":
        tell(text)


def arguments_of(
    project: str, service: str, verb: str, provider: Mapping[str, Any], metadata: Mapping[str, Any], place: str
) -> list[str]:
    """Return the arguments of a program; options that it says it does not know are left out.

    Raises:
        CliError: it needs an option that is not given.
    """
    known = metadata.get(verb, {}).get("parameters") or []
    names = {one.get("name") for one in known}
    options = provider.get("options") or {}
    for one in known:
        if one.get("required") and one.get("name") not in options:
            raise CliError(f"{place}: provider {provider['type']} needs the option {one.get('name')}")
    words = ["compose", f"--project-name={project}", verb]
    for key, value in options.items():
        if not metadata or key in names:
            words += [f"--{key}={_text(one)}" for one in (value if isinstance(value, list) else [value])]
    return [*words, service]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metadata(program: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what a program says of itself, {} when it says nothing."""
    try:
        done = subprocess.run([program, "compose", "metadata"], capture_output=True, env=environment, timeout=10)
        found = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else {}
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    return found if isinstance(found, dict) else {}


def find(kind: str, place: str) -> str:
    """Return the program of a provider's type.

    Raises:
        CliError: there is none.
    """
    if kind == "compose":
        raise CliError(f'{place}: "compose" is no provider')
    folders = [os.path.expanduser(folder) for folder in PLUGIN_FOLDERS]
    found = shutil.which(f"docker-{kind}", path=os.pathsep.join(folders)) or shutil.which(kind)
    if found is None:
        raise CliError(
            f"{place}: there is no provider {kind}: neither docker-{kind} in {folders[0]} nor {kind} on the PATH"
        )
    return found


def _place(project: Project, name: str) -> str:
    position = project.position(("services", name, "provider", "type"))
    key = f"services.{name}.provider"
    return f"{position.file}:{position.line}:{position.column}: {key}" if position else key
