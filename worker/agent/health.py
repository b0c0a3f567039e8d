"""Health checks: Docker's rules ("Dockerfile reference", HEALTHCHECK). The rules are pure; the loop only probes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pycompose.proto.v1 import container_pb2, task_pb2

OUTPUT = 4096
SECOND = 1_000_000_000
WORDS: dict[int, str] = {
    task_pb2.HEALTH_STATE_UNSPECIFIED: "none",
    task_pb2.HEALTH_STATE_STARTING: "starting",
    task_pb2.HEALTH_STATE_HEALTHY: "healthy",
    task_pb2.HEALTH_STATE_UNHEALTHY: "unhealthy",
}


@dataclass(frozen=True)
class Check:
    """`test` is program and arguments; times in seconds."""

    test: tuple[str, ...]
    interval: float = 30.0
    timeout: float = 30.0
    retries: int = 3
    start_period: float = 0.0
    start_interval: float = 5.0


@dataclass(frozen=True)
class Health:
    """`state` is a HealthState; `failures` in a row; `checks` made in this run."""

    state: int = task_pb2.HEALTH_STATE_STARTING
    failures: int = 0
    output: str = ""
    checks: int = 0


def check_of(spec: container_pb2.ContainerSpec, image: Mapping[str, Any]) -> Check | None:
    """Return the check of a container, None when it has none."""
    own = spec.healthcheck if spec.HasField("healthcheck") else None
    given: Mapping[str, Any] = image.get("Healthcheck") or {}
    test = list(own.test) if own is not None and own.test else list(given.get("Test") or [])
    if not test or test[0] == "NONE":
        return None
    words = ("/bin/sh", "-c", test[1]) if test[0] == "CMD-SHELL" else tuple(test[1:])
    check = Check(words)

    def seconds(name: str, key: str, default: float) -> float:
        if own is not None and own.HasField(name):  # type: ignore[arg-type]
            return float(getattr(own, name).ToNanoseconds()) / SECOND
        return float(given.get(key) or 0) / SECOND or default

    return replace(
        check,
        interval=seconds("interval", "Interval", check.interval),
        timeout=seconds("timeout", "Timeout", check.timeout),
        start_period=seconds("start_period", "StartPeriod", check.start_period),
        start_interval=seconds("start_interval", "StartInterval", check.start_interval),
        retries=(own.retries if own is not None else 0) or int(given.get("Retries") or 0) or check.retries,
    )


def after(check: Check, health: Health, passed: bool, output: str, age: float) -> Health:
    """Return the health after a probe; `age`: seconds since the run began."""
    text, checks = output[-OUTPUT:], health.checks + 1
    if passed:
        return Health(task_pb2.HEALTH_STATE_HEALTHY, 0, text, checks)
    if health.state == task_pb2.HEALTH_STATE_STARTING and age < check.start_period:
        return Health(health.state, 0, text, checks)
    failures = health.failures + 1
    state = task_pb2.HEALTH_STATE_UNHEALTHY if failures >= check.retries else health.state
    return Health(state, failures, text, checks)


def pause(check: Check, health: Health, age: float) -> float:
    """Return seconds until the next probe."""
    starting = health.state == task_pb2.HEALTH_STATE_STARTING and age < check.start_period
    return min(check.start_interval, check.interval) if starting else check.interval


async def watch(
    check: Check,
    probe: Callable[[Check], Awaitable[tuple[bool, str]]],
    tell: Callable[[Health], None],
    clock: Callable[[], float],
    health: Health,
) -> None:
    """Probe until cancelled; `tell` hears each result; `health` is what is known at the beginning."""
    began = clock()
    tell(health)
    while True:
        await asyncio.sleep(pause(check, health, clock() - began))
        passed, output = await probe(check)
        health = after(check, health, passed, output, clock() - began)
        tell(health)
