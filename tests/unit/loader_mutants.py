"""The process that loads mutated files, so that a crash ends it and not the test: `loader_mutants.py SEED COUNT`.

It prints one JSON object: the longest processor time of one input in seconds, and the largest memory of the process in
megabytes. An input that ends in anything but a project or a LoadError ends the process with it on standard error.
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from pycompose.compose.loader import LoadError, MemoryFiles, load, render_json, render_yaml


class Everywhere(MemoryFiles):
    """One Compose file among env files: whatever else is asked for is there, so that loading goes on."""

    def read(self, path: str) -> bytes:
        """See `Files.read`."""
        return self.files.get(path, b"A=1\nB=${A}\n")

    def is_file(self, path: str) -> bool:
        """See `Files.is_file`."""
        return path in self.files or path.endswith("env")


ROOT = Path(__file__).parents[2]
SCRAPS = (
    "*a", "&a", "<<: *a", "!reset null", "!override", "!!int x", "${", "${A:-${B}}", "$$", "\t", "- ", "? ", ": ",
    "{", "}", "[", "]", "|", ">", "'", '"', "#", "---", "...", "\x00", "\ufeff", "\u2028", "é", "null", "~", "0x",
    "1e999", "-1", "2001-01-01", "services:", "image:", "extends: {file: compose.yaml, service: web}",
    "include: [compose.yaml]", "<<", "x-", "%YAML 9.9", "1-65535:1-65535", "0-65535", "${A}${A}${A}${A}",
    "[&b [x, x, x, x], *b , *b , *b ]", "99999999999999999999", "1e308w", "[[[[[[[[[[", "{a: {a: {a: {a: ",
)  # fmt: skip


def seeds() -> list[str]:
    """Return the project's own examples and, where they lie beside it, real projects' files."""
    corpora = [above / "shared" / "compose-corpus" / "files" for above in ROOT.parents[:2]]
    folders = [ROOT / "examples", *corpora]
    paths = sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*.y*ml"))
    return [path.read_text(errors="replace") for path in paths]


def mutated(text: str, chance: random.Random) -> str:
    """Change a text in one to three places."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(text) + 1)
        lines = text.split("\n")
        line = chance.randrange(len(lines))
        match chance.randrange(9):
            case 0:
                text = text[:at] + chance.choice(SCRAPS) + text[at:]
            case 1:
                text = text[:at] + text[at + chance.randint(1, 20) :]
            case 2:
                lines.insert(chance.randrange(len(lines) + 1), lines[line])
                text = "\n".join(lines)
            case 3:
                del lines[line]
                text = "\n".join(lines)
            case 4:
                lines[line] = " " * chance.randint(0, 8) + lines[line].lstrip()
                text = "\n".join(lines)
            case 5:
                mark = "- " if lines[line].lstrip().startswith("- ") else ":"
                key, mark, _ = lines[line].partition(mark)
                lines[line] = f"{key}{mark} {chance.choice(SCRAPS)}"
                text = "\n".join(lines)
            case 6:
                text = text[:at] + chr(chance.randrange(0x250)) + text[at + 1 :]
            case 7:
                lines[line] *= chance.choice((2, 10, 100, 1000))
                text = "\n".join(lines)
            case _:
                other = chance.randrange(len(lines))
                lines[line], lines[other] = lines[other], lines[line]
                text = "\n".join(lines)
    return text


def bombs() -> Iterator[str]:
    """Return files that are small and would be huge, or slow, once they are written out."""

    def services(line: str, count: int) -> str:
        return "services:\n" + "".join(f"  s{n}: {{{line.format(n=n, after=(n + 1) % count)}}}\n" for n in range(count))

    def one(line: str) -> str:
        return f"services: {{a: {{image: x, {line}}}}}\n"

    many = ", ".join(f"K{n}: '${{A:-${{B:-x}}}}'" for n in range(1000))
    pools = ", ".join(f"{{subnet: 10.{n // 250}.{n % 250}.0/24}}" for n in range(1000))
    yield "x-0: &a0 [x]\n" + "".join(f"x-{n}: &a{n} [{f'*a{n - 1} , ' * 9}]\n" for n in range(1, 12))
    yield f"x-e: &e {{{many}}}\n" + services("image: x, environment: *e ", 140)
    yield "x-p: &p ['80-1000:80-1000']\n" + services("image: x, ports: *p ", 2000)
    yield f"x-e: &e {{{many}}}\n" + services("extends: s0, environment: *e ", 200)
    yield "".join(
        f"---\nservices: {{a: {{image: x}}}}\nnetworks: {{n: {{ipam: {{config: [{pools}]}}}}}}\n" for _ in "ab"
    )
    yield services("image: x, depends_on: [s{after}]", 3000)
    yield services("image: x, depends_on: [t{n}], networks: [net{n}]", 3000)
    yield one("ports: ['1-65535:1-65535']")
    yield one("ports: ['127.0.0.1:1-65535:1-65535', '127.0.0.2:1-65535:1-65535']")
    yield one("labels: {l: '" + "${A:-x}" * 20_000 + "'}")
    yield one("labels: {l: '" + ("${A:-" * 99 + "x" + "}" * 99) * 100 + "'}")
    yield one("labels: {l: '" + "$$" * 500_000 + "'}")
    yield one(", ".join(f"unknownkey{n}: x" for n in range(20_000)))
    yield one("group_add: [" + ", ".join(f"'{n}', {n}.5" for n in range(10_000)) + "]")
    yield one(f"cpus: '{'1' * 100_000}', stop_grace_period: '{'1' * 100_000}h', scale: {'1' * 100_000}")
    yield one(f"command: '{'a b' * 100_000}'")
    yield "x: " + "[" * 100_000
    yield "---\nservices: {a: {image: x, dns: [1.1.1.1]}}\n" * 2000


def processor_seconds() -> float:
    """Return the processor time of this process, which other processes do not lengthen as they do the clock's."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_megabytes() -> float:
    """Return the most memory that this program had (proc_pid_status(5)); getrusage(2) also counts who started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def read(text: str) -> None:
    """Load and print one file, or be told what is wrong with it."""
    try:
        project = load(["/p/compose.yaml"], files=Everywhere({"/p/compose.yaml": text}))
        render_yaml(project)
        render_json(project)
    except LoadError as error:
        if not str(error):
            raise AssertionError("an error without words") from error


def main(seed: int, count: int) -> None:
    """Read the bombs and `count` mutated files."""
    chance = random.Random(seed)
    texts = seeds()
    inputs = itertools.chain(bombs(), (mutated(chance.choice(texts), chance) for _ in range(count)))
    slowest, slow_text = 0.0, ""
    for number, text in enumerate(inputs):
        started = processor_seconds()
        try:
            read(text)
        except BaseException:
            print(f"input {number}:\n{text}", file=sys.stderr)
            raise
        if (taken := processor_seconds() - started) > slowest:
            slowest, slow_text = taken, text
    print(json.dumps({"seconds": slowest, "megabytes": peak_megabytes(), "slowest": slow_text[:20_000]}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
