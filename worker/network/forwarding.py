"""Other programs' firewalls: does one drop what the machine forwards for containers, and may we add an exception?

A packet must pass every base chain of the forward hook; one that drops by policy (dockerd sets ``FORWARD DROP``, ufw
too) cuts containers off whatever our table says. Docker leaves a chain for exceptions, DOCKER-USER ("Packet filtering
and firewalls" in its documentation): there we put ours, behind the administrator's own. Elsewhere we only report.
Pure, but for ``run``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHAIN = "DOCKER-USER"
MARK = "pycompose"


@dataclass(frozen=True)
class Dropping:
    """A base chain of the forward hook that drops by policy; ``exceptions``: it has a DOCKER-USER chain beside it."""

    family: str
    table: str
    chain: str
    exceptions: bool


def dropping(listing: str, own: str) -> list[Dropping]:
    """Find such chains in the JSON of ``nft list chains`` (libnftables-json(5)); `own`: our table's name."""
    chains: list[dict[str, Any]] = [
        item["chain"] for item in json.loads(listing or "{}").get("nftables", []) if "chain" in item
    ]
    with_exceptions = {(each["family"], each["table"]) for each in chains if each["name"] == CHAIN}
    return [
        Dropping(each["family"], each["table"], each["name"], (each["family"], each["table"]) in with_exceptions)
        for each in chains
        if each.get("hook") == "forward"
        and each.get("policy") == "drop"
        and each["family"] in ("ip", "inet")
        and each["table"] != own
    ]


def legacy_dropping(rules: str) -> list[Dropping]:
    """The same of ``iptables-legacy -S``'s output, whose chains nft does not list."""
    lines = rules.splitlines()
    if "-P FORWARD DROP" not in lines:
        return []
    return [Dropping("legacy", "filter", "FORWARD", f"-N {CHAIN}" in lines)]


def exception_commands(rules: str, prefix: str) -> list[list[str]]:
    """What to call ``iptables`` with, so that links named `prefix`… are accepted; [] when they are.

    `rules`: output of ``iptables -S DOCKER-USER``. Ours go behind the administrator's rules, and before a final RETURN.
    """
    lines = [line.split() for line in rules.splitlines() if line.startswith("-A ")]
    place = len(lines) + 1
    if lines and lines[-1] == ["-A", CHAIN, "-j", "RETURN"]:
        place = len(lines)
    commands: list[list[str]] = []
    for direction in ("-i", "-o"):
        if not any(direction in line and f"{prefix}+" in line and "ACCEPT" in line for line in lines):
            where = ["-I", CHAIN, str(place + len(commands))]
            commands.append([*where, *_exception(direction, prefix)])
    return commands


def removal_commands(rules: str, prefix: str) -> list[list[str]]:
    """What to call ``iptables`` with to take our exceptions away."""
    lines = [line.split() for line in rules.splitlines() if line.startswith("-A ") and MARK in line]
    return [
        ["-D", CHAIN, *_exception(direction, prefix)]
        for direction in ("-i", "-o")
        for line in lines
        if direction in line and f"{prefix}+" in line
    ]


def _exception(direction: str, prefix: str) -> list[str]:
    return [direction, f"{prefix}+", "-m", "comment", "--comment", MARK, "-j", "ACCEPT"]


def warning(found: Dropping, prefix: str) -> str:
    """What an operator should know of a chain that we have no exception in."""
    where = f"table {found.family} {found.table}, chain {found.chain}"
    if found.family == "legacy":
        remedy = f"iptables-legacy -I FORWARD -i {prefix}+ -j ACCEPT; iptables-legacy -I FORWARD -o {prefix}+ -j ACCEPT"
    else:
        rule = f"nft insert rule {found.family} {found.table} {found.chain}"
        remedy = f"{rule} iifname '{prefix}*' accept; {rule} oifname '{prefix}*' accept"
    return (
        f"another program drops forwarded traffic ({where}: policy drop), so containers have no way out and published "
        f"ports are not reached from other machines; allow it: {remedy}"
    )


def run(tool: str, arguments: Sequence[str]) -> str | None:
    """Output of iptables (the tool that made the chains), or None when it is missing or fails."""
    path = shutil.which(tool)
    if path is None:
        return None
    done = subprocess.run([path, "-w", "5", *arguments], capture_output=True, text=True, check=False, timeout=20)
    return done.stdout if done.returncode == 0 else None


def has_legacy_rules() -> bool:
    """Whether iptables-legacy has a filter table in the machine's namespace (/proc/net/ip_tables_names)."""
    try:
        return "filter" in Path("/proc/thread-self/net/ip_tables_names").read_text().split()
    except OSError:
        return False
