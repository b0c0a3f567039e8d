"""Mutated files: whatever a file has become, loading it ends with a project or with messages, and soon.

`make test` tries 5,000 of them, `make soak` 100,000. The seeds are the project's own examples and, where they lie
beside it, real projects' files.
"""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path

import pytest

from pycompose.compose.loader import LoadError, MemoryFiles, load, render_json, render_yaml

ROOT = Path(__file__).parents[2]
INPUTS = 100_000 if os.environ.get("PYCOMPOSE_SOAK") == "full" else 5_000
SECONDS = 30
"""Longest time for one input; budgets are for bench/, this is for what does not end at all."""
MEGABYTES = 400
"""How much the whole process may grow while it reads all inputs."""
SCRAPS = (
    "*a", "&a", "<<: *a", "!reset null", "!override", "!!int x", "${", "${A:-${B}}", "$$", "\t", "- ", "? ", ": ",
    "{", "}", "[", "]", "|", ">", "'", '"', "#", "---", "...", "\x00", "\ufeff", "\u2028", "é", "null", "~", "0x",
    "1e999", "-1", "2001-01-01", "services:", "image:", "extends: {file: compose.yaml, service: web}",
    "include: [compose.yaml]", "<<", "x-", "%YAML 9.9",
)  # fmt: skip


def seeds() -> list[str]:
    corpora = [above / "shared" / "compose-corpus" / "files" for above in ROOT.parents[:2]]
    folders = [ROOT / "examples", *corpora]
    paths = sorted(path for folder in folders if folder.is_dir() for path in folder.rglob("*.y*ml"))
    return [text for path in paths if len(text := path.read_text(errors="replace")) < 20_000]


def mutated(text: str, chance: random.Random) -> str:
    """Change a text in one to three places."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        at = chance.randrange(len(text) + 1)
        lines = text.split("\n")
        line = chance.randrange(len(lines))
        match chance.randrange(8):
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
                key, colon, _ = lines[line].partition(":")
                lines[line] = f"{key}{colon} {chance.choice(SCRAPS)}"
                text = "\n".join(lines)
            case 6:
                text = text[:at] + chr(chance.randrange(0x250)) + text[at + 1 :]
            case _:
                other = chance.randrange(len(lines))
                lines[line], lines[other] = lines[other], lines[line]
                text = "\n".join(lines)
    return text


@pytest.mark.timeout(7200)
def test_soak_mutated_files_load_or_are_load_errors() -> None:
    chance = random.Random(20251125)
    texts = seeds()
    assert texts
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    slowest, empty = 0.0, 0
    for number in range(INPUTS):
        text = mutated(chance.choice(texts), chance)
        started = time.monotonic()
        try:
            project = load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text, "/p/.env": "A=1\n"}))
            render_yaml(project)
            render_json(project)
        except LoadError as error:
            said = str(error)
            empty += not said
        except Exception as error:
            raise AssertionError(f"input {number}: {type(error).__name__}: {error}\n{text}") from error
        slowest = max(slowest, time.monotonic() - started)
        assert slowest < SECONDS, text
    assert not empty
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MEGABYTES
