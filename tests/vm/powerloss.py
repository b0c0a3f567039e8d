"""Power lost under load: a guest whose QEMU is killed, again and again, on one disk (ATTACKS J03).

    python tests/vm/powerloss.py [ROUNDS] [SEED]

The guest runs `rounds.py`, which first waits for the node that systemd started at boot, reports everything that the
node and a container's volume hold, then changes things as fast as it can. Each change that was acknowledged it tells
through a serial port, outside of what is lost. After each boot nothing that was ever told may be missing, the node must
have come by itself, and the containers with `restart: always` must run.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import guest

BOOT_SECONDS = 900
#: How long the load runs before the power goes.
LOAD_SECONDS = (3.0, 25.0)


@dataclass
class Told:
    """What the guest acknowledged in all its lives, and what it should have after a boot."""

    configs: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    removing: set[str] = field(default_factory=set)
    revision: int = 0
    written: int = 0
    changes: int = 0

    def hear(self, acknowledged: str, written: str) -> None:
        """Take in what a life told; a line cut by the end counts for nothing."""
        for line in acknowledged.splitlines(keepends=True):
            word, _, value = line.strip().partition(" ")
            if not line.endswith("\n"):
                continue
            self.changes += word in ("config", "removed", "revision")
            match word:
                case "config":
                    self.configs.add(value)
                case "removing":
                    self.removing.add(value)
                case "removed":
                    self.removed.add(value)
                case "revision":
                    self.revision = max(self.revision, int(value))
        numbers = [line for line in written.splitlines(keepends=True) if line.endswith("\n")]
        self.written = max([self.written, *(int(line) for line in numbers if line.strip().isdigit())])

    def lost(self, held: dict[str, str]) -> list[str]:
        """What is not there, or is there again, of what was told."""
        configs = set(held["configs"].split())
        found = [f"config {name} is lost" for name in sorted(self.configs - self.removing - configs)]
        found += [f"config {name} is back" for name in sorted(self.removed & configs)]
        if int(held["revision"]) < self.revision:
            found.append(f"revision {self.revision} of the service is lost: {held['revision']}")
        if int(held["written"]) < self.written:
            found.append(f"line {self.written} in the volume is lost: {held['written']}")
        if held["running"] != "writer always":
            found.append(f"not all containers run: {held['running']!r}")
        return found


def value(text: str, name: str) -> str | None:
    """What the guest reported under a name; None: nothing so far."""
    rows = [line for line in text.splitlines(keepends=True) if line.startswith(f"{name}=") and line.endswith("\n")]
    return rows[-1].strip().partition("=")[2] if rows else None


def read(path: Path) -> str:
    """A serial port's output so far."""
    return path.read_text(errors="replace").replace("\r", "") if path.exists() else ""


def life(machine: guest.Guest, told: Told, seconds: float) -> list[str]:
    """Boot, compare, load for some seconds, kill; returns what was lost before."""
    began = time.monotonic()
    with machine.start() as process:
        try:
            while value(read(machine.result), "loading") is None:
                if process.poll() is not None or time.monotonic() - began > BOOT_SECONDS:
                    text = read(machine.result) + read(machine.console)[-3000:]
                    return [f"the guest did not come so far as to be loaded in {BOOT_SECONDS} s:\n{text}"]
                time.sleep(0.1)
            text = read(machine.result)
            names = ("configs", "revision", "written", "running", "unattended")
            held = {name: value(text, name) or "" for name in names}
            time.sleep(seconds)
        finally:
            process.kill()
    lost = told.lost(held) if held["unattended"] else []
    print(
        f"  up unattended after {held['unattended'] or '(first life)'} s of guest time, "
        f"{len(told.configs)} configs, revision {held['revision']}, {held['written']} lines; "
        f"loaded for {seconds:.1f} s, then killed",
        flush=True,
    )
    told.hear(*map(read, machine.serial))
    return lost


def main(arguments: list[str]) -> int:
    """Kill a guest ROUNDS times; returns 0 when nothing that was acknowledged was lost."""
    rounds = int(arguments[0]) if arguments else 1
    seed = int(arguments[1]) if arguments[1:] else random.SystemRandom().randrange(1 << 32)
    chance, told, place = random.Random(seed), Told(), guest.base()
    print(f"power loss: {rounds} kills, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pycompose-vm-") as name:
        folder = Path(name)
        guest.run("cp", "--sparse=always", place / "root.ext4", folder / "root.ext4")
        image = guest.project(folder, "PYTHONPATH=$PYTHONPATH:/project/tests exec python3 tests/vm/rounds.py")
        ports = (folder / "acknowledged", folder / "written")
        machine = guest.Guest(place, folder / "root.ext4", image, folder, keep=True, serial=ports)
        for number in range(rounds + 1):
            # the last life only looks
            lost = life(machine, told, chance.uniform(*LOAD_SECONDS) if number < rounds else 0)
            if lost:
                print(f"after kill {number}:", *lost[:20], sep="\n  ", flush=True)
                return 1
    print(
        f"power loss: {rounds} kills, {told.changes} changes and {told.written} fsyncs acknowledged, 0 lost", flush=True
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
