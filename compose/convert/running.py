"""What happens to a running container: health checks, hooks, output, and when its image is asked for."""

from __future__ import annotations

import re
from typing import Any

from pycompose.compose.convert.problems import Problems
from pycompose.compose.convert.values import duration, pairs, texts
from pycompose.proto.v1 import container_pb2 as pb
from pycompose.proto.vocabulary import LOG_DRIVERS

_PULL = {
    "always": pb.PULL_POLICY_ALWAYS,
    "never": pb.PULL_POLICY_NEVER,
    "missing": pb.PULL_POLICY_MISSING,
    "if_not_present": pb.PULL_POLICY_MISSING,
    "daily": pb.PULL_POLICY_REFRESH,
    "weekly": pb.PULL_POLICY_REFRESH,
}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LOG_SIZE = re.compile(r"\d+(\.\d+)?[bkmg]?b?\Z|-1\Z", re.IGNORECASE)


def pull_policy(spec: pb.ContainerSpec, service: dict[str, Any], name: str, problems: Problems) -> None:
    """Write when the registry is asked; nothing where the file does not say."""
    path, word = ("services", name, "pull_policy"), service.get("pull_policy") or ""
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([wdhms])", word))
    if word in _PULL:
        spec.pull_policy = _PULL[word]
        seconds = {"daily": _SECONDS["d"], "weekly": _SECONDS["w"]}.get(word, 0)
    elif word.startswith("every_"):
        spec.pull_policy = pb.PULL_POLICY_REFRESH
    elif word == "refresh":
        spec.pull_policy = pb.PULL_POLICY_REFRESH
        if not service.get("pull_refresh_after"):
            problems.error(path, "refresh does not say how often", "add pull_refresh_after: 24h, or write daily")
            return
        seconds = duration(service["pull_refresh_after"]).seconds
    elif word == "build" and not service.get("build"):
        problems.error(path, "build means nothing without a build: section", "say how to build it, or leave it out")
    if spec.pull_policy == pb.PULL_POLICY_REFRESH:
        spec.pull_refresh_after.FromSeconds(seconds)


def health(spec: pb.ContainerSpec, service: dict[str, Any], name: str, problems: Problems) -> None:
    """Write the healthcheck, and what an unhealthy container means."""
    check = service.get("healthcheck")
    wish = service.get("x-on-unhealthy")
    if wish not in (None, "restart", "ignore"):
        problems.error(("services", name, "x-on-unhealthy"), f'unknown value "{wish}"', "want restart or ignore")
    policy = (service.get("deploy") or {}).get("restart_policy") or {}
    restarts = wish == "restart" or (wish is None and bool(policy) and policy.get("condition") != "none")
    if check:
        if check.get("disable"):
            spec.healthcheck.test.append("NONE")
            return
        spec.healthcheck.test.extend(check.get("test") or ())
        for field in ("interval", "timeout", "start_period", "start_interval"):
            if check.get(field) is not None:
                getattr(spec.healthcheck, field).CopyFrom(duration(check[field]))
        spec.healthcheck.retries = int(check.get("retries") or 0)
    if restarts or wish:
        spec.healthcheck.on_unhealthy = pb.ON_UNHEALTHY_RESTART if restarts else pb.ON_UNHEALTHY_IGNORE


def logging(spec: pb.ContainerSpec, service: dict[str, Any], name: str, problems: Problems) -> None:
    """Write where output goes."""
    given = service.get("logging")
    if not given:
        return
    path = ("services", name, "logging")
    driver = given.get("driver") or "json-file"
    options = texts(given.get("options"))
    if driver not in LOG_DRIVERS:
        problems.error((*path, "driver"), f'there is no log driver "{driver}"', f"want {', '.join(LOG_DRIVERS)}")
        return
    spec.logging.driver = driver
    for key, value in options.items():
        place = (*path, "options", key)
        if driver == "none" or key not in ("max-size", "max-file"):
            problems.warn(place, f"the driver {driver} has no such option here, and it has no effect")
        elif key == "max-size" and not _LOG_SIZE.match(value):
            problems.error(place, f'"{value}" is no size', "write it like 10m, or -1 for no limit")
        elif key == "max-file" and not (value.isdigit() and int(value)):
            problems.error(place, f'"{value}" is no number of files', "want 1 or more")
        else:
            spec.logging.options[key] = value


def hooks(spec: pb.ContainerSpec, service: dict[str, Any], name: str, problems: Problems) -> None:
    """Write the commands that run beside the program after its start and before its stop."""
    for field in ("post_start", "pre_stop"):
        for index, hook in enumerate(service.get(field) or ()):
            if not hook.get("command"):
                problems.error(("services", name, field, index), "a hook needs a command", "add command: …")
            directory = hook.get("working_dir") or ""
            if directory and not directory.startswith("/"):
                place = ("services", name, field, index, "working_dir")
                problems.error(place, f'"{directory}" is not absolute', "begin it with /")
            getattr(spec, field).add(
                command=hook.get("command") or (),
                user=hook.get("user") or "",
                privileged=hook.get("privileged") or False,
                working_dir=directory,
                env=pairs(hook.get("environment")),
            )
