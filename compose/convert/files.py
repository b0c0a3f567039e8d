"""Secrets, configs and volumes of the project."""

from __future__ import annotations

from pycompose.compose.convert.desired import Desired, Machine
from pycompose.compose.convert.problems import Problems
from pycompose.compose.labels import PROJECT, VOLUME
from pycompose.compose.loader import Project
from pycompose.proto.v1 import secret_pb2, volume_pb2

LIMITS = {"secrets": 500 << 10, "configs": 1000 << 10}


def volumes(project: Project, desired: Desired, problems: Problems) -> None:
    """Fill in the named volumes."""
    for key, entry in (project.model.get("volumes") or {}).items():
        if entry.get("external"):
            desired.external_volumes[entry["name"]] = problems.place(("volumes", key))
            continue
        desired.volumes[entry["name"]] = volume_pb2.VolumeSpec(
            name=entry["name"],
            project=project.name,
            driver=entry.get("driver") or "",
            driver_options={option: str(value) for option, value in (entry.get("driver_opts") or {}).items()},
            labels={**(entry.get("labels") or {}), PROJECT: project.name, VOLUME: key},
        )


def secrets_and_configs(project: Project, desired: Desired, machine: Machine, problems: Problems) -> None:
    """Fill in the secrets and configs, with their content."""
    for section in ("secrets", "configs"):
        values = project.secret_values if section == "secrets" else project.config_values
        for key, entry in (project.model.get(section) or {}).items():
            name = entry["name"]
            if entry.get("external"):
                external = desired.external_secrets if section == "secrets" else desired.external_configs
                external[name] = problems.place((section, key))
                continue
            path: tuple[str | int, ...] = (section, key)
            if entry.get("file"):
                data = _read(entry["file"], (*path, "file"), machine, problems)
            elif entry.get("environment"):
                data = _variable(project, entry["environment"], values.get(key), (*path, "environment"), problems)
            else:
                data = str(values.get(key, entry.get("content", ""))).encode()
            if len(data) > LIMITS[section]:
                problems.error(path, f"{len(data)} bytes are too many", f"the most is {LIMITS[section]}")
            labels = {**(entry.get("labels") or {}), PROJECT: project.name}
            if section == "secrets":
                desired.secrets[name] = secret_pb2.SecretSpec(name=name, project=project.name, labels=labels, data=data)
            else:
                desired.configs[name] = secret_pb2.ConfigSpec(name=name, project=project.name, labels=labels, data=data)


def _read(file: str, path: tuple[str | int, ...], machine: Machine, problems: Problems) -> bytes:
    try:
        return machine.read(file)
    except OSError as error:
        problems.error(path, f"{file}: {error.strerror or error}", "make the file, or name another")
        return b""


def _variable(
    project: Project, variable: str, value: str | None, path: tuple[str | int, ...], problems: Problems
) -> bytes:
    found = value if value is not None else project.environment.get(variable)
    if found is None:
        problems.error(path, f"the variable {variable} is not set", f"set it: {variable}=… pycompose up")
        return b""
    return found.encode()
