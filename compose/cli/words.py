"""Docker's words for ages, states, ports and sizes: pure functions."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from pycompose.compose.cli.fitting import cut
from pycompose.compose.plan.progress import leaving
from pycompose.proto.v1 import service_pb2, task_pb2

PROTOCOLS = {0: "tcp", 1: "tcp", 2: "udp", 3: "sctp"}
_EXITED = (task_pb2.TASK_STATE_COMPLETE, task_pb2.TASK_STATE_SHUTDOWN, task_pb2.TASK_STATE_FAILED)


def age(seconds: float) -> str:
    """Return "5 seconds", "About a minute", "3 hours": go-units' HumanDuration."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(whole / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    limits = ((24 * 7 * 2, 24, "days"), (24 * 30 * 2, 24 * 7, "weeks"), (24 * 365 * 2, 24 * 30, "months"))
    for limit, unit, word in limits:
        if hours < limit:
            return f"{hours // unit} {word}"
    return f"{hours // (24 * 365)} years"


def since(stamp: Timestamp, now: float) -> str:
    """Return how long ago a time was."""
    return age(max(0.0, now - stamp.ToNanoseconds() / 1e9))


def state(task: task_pb2.Task) -> str:
    """Return Docker's state: created, running, paused, restarting, removing, exited or dead; ours: pending."""
    status = task.status
    if leaving(task):
        return "removing"
    if status.state == task_pb2.TASK_STATE_RUNNING:
        return "paused" if status.paused else "running"
    if status.HasField("next_restart_at"):
        return "restarting"
    if status.state in _EXITED:
        return "exited" if status.run else "created"
    if status.state == task_pb2.TASK_STATE_REJECTED:
        return "created"
    if status.state == task_pb2.TASK_STATE_ORPHANED:
        return "dead"
    if status.state in (task_pb2.TASK_STATE_READY, task_pb2.TASK_STATE_STARTING):
        return "created"
    return "pending"


def status(task: task_pb2.Task, now: float) -> str:
    """Return Docker's STATUS column: "Up 5 seconds (healthy)", "Exited (0) 2 minutes ago"."""
    its = task.status
    word = state(task)
    if word in ("running", "paused"):
        text = f"Up {since(its.started_at, now)}"
        if word == "paused":
            return f"{text} (Paused)"
        health = {1: " (health: starting)", 2: " (healthy)", 3: " (unhealthy)"}.get(its.health, "")
        return text + health
    if word == "exited":
        ended = since(its.finished_at, now) if its.HasField("finished_at") else "some time"
        return f"Exited ({its.exit_code}) {ended} ago" + (" (OOM killed)" if its.oom_killed else "")
    if word == "restarting":
        return f"Restarting ({its.exit_code}) {since(its.finished_at, now)} ago"
    if word == "removing":
        return "Removal In Progress"
    if word == "dead":
        return "Dead"
    if its.state == task_pb2.TASK_STATE_REJECTED:
        return "Rejected"
    return word.capitalize()


def reason(task: task_pb2.Task) -> str:
    """Return why a container waits or could not do what it should, in a line; "" when there is nothing to say."""
    its = task.status
    if state(task) == "pending" or its.state == task_pb2.TASK_STATE_REJECTED:
        text = its.error or its.message
    elif state(task) == "running":
        text = its.health_output if its.health == task_pb2.HEALTH_STATE_UNHEALTHY else ""
    else:
        text = its.error
    return " ".join(text.split())


def health(task: task_pb2.Task) -> str:
    """Return "starting", "healthy", "unhealthy" or ""."""
    return {1: "starting", 2: "healthy", 3: "unhealthy"}.get(task.status.health, "")


def published(service: service_pb2.Service | None, task: task_pb2.Task) -> list[tuple[str, int, int, str]]:
    """Return (address, published port, target port, protocol) of everything that leads to a task."""
    found = [(port.host_ip, port.published_port, port.target_port, port.protocol or "tcp") for port in task.ports]
    for spec in service.endpoint.ports if service is not None else ():
        if spec.publish_mode == service_pb2.PUBLISH_MODE_HOST or spec.published_port_end or not spec.published_port:
            continue
        found.append((spec.host_ip, spec.published_port, spec.target_port, PROTOCOLS[spec.protocol]))
    return sorted(found, key=lambda one: (one[2], one[1]))


def ports(service: service_pb2.Service | None, task: task_pb2.Task) -> str:
    """Return Docker's PORTS column: "0.0.0.0:8080->80/tcp"."""
    return ", ".join(
        f"{_host(address)}:{public}->{target}/{protocol}"
        for address, public, target, protocol in published(service, task)
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address or "0.0.0.0"


def size(number: float) -> str:
    """Return bytes as Docker writes them: "12.3MB", by powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(number) < 1000 or unit == "TB":
            return f"{number:.4g}{unit}" if unit != "B" else f"{number:.0f}B"
        number /= 1000
    return ""


def binary_size(number: float) -> str:
    """Return bytes by powers of 1024: "12.3MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1024 or unit == "TiB":
            return f"{number:.4g}{unit}" if unit != "B" else f"{number:.0f}B"
        number /= 1024
    return ""


def command(words: Iterable[str], limit: int | None = None) -> str:
    """Return a command as Docker's COMMAND column shows it: words with spaces in quotes, cut to `limit` characters."""
    text = " ".join(f"'{word}'" if " " in word else word for word in words)
    return f'"{text if limit is None else cut(text, limit)}"'
