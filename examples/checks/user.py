"""A person at a terminal in an application's folder, who types pycompose's commands and asks what is published."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Failed(Exception):
    """A step did not do what it should; the message says what, and what was seen instead."""


@dataclass(frozen=True)
class User:
    """Somebody who works with one application.

    Attributes:
        tool: the command line, as words.
        folder: the application's.
        flags: words before each command, such as --profile NAME.
    """

    tool: Sequence[str]
    folder: Path
    flags: Sequence[str] = ()

    def pycompose(self, *words: str) -> str:
        """Run a command and return what it prints. Raises Failed."""
        command = [*self.tool, *self.flags, *words]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed(f"pycompose {' '.join(words)} ended with status {done.returncode}:\n{done.stderr}")
        return done.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return the project's containers by name."""
        lines = self.pycompose("ps", "-a", "--format", "ndjson").splitlines()
        return {item["Name"]: item for item in map(json.loads, lines)}

    def log(self, service: str) -> str:
        """Return what a service's containers have written."""
        return self.pycompose("logs", "--no-color", "--no-log-prefix", service)

    def inside(self, service: str, *words: str) -> str:
        """Run a program in a service's container and return what it prints."""
        return self.pycompose("exec", "-T", service, *words)


def fetch(url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None, method: str = "") -> bytes:
    """Return the answer to a request; data are posted. Raises Failed, where it is an error or does not come."""
    asked = urllib.request.Request(url, data, dict(headers or {}), method=method or None)
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        raise Failed(f"{url}: {error.code} {error.reason}: {error.read()[:200]!r}") from error
    except OSError as error:
        raise Failed(f"{url}: {error}") from error


def fetch_json(url: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """Return a JSON answer's content."""
    return json.loads(fetch(url, data, {"Accept": "application/json", **(headers or {})}))


def until(what: str, condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until a condition holds, and return its value; that the application fails meanwhile counts as not yet."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while True:
        try:
            if found := condition():
                return found
            last = None
        except Failed as error:
            last = error
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds:.0f} s: {what}" + (f" ({last})" if last else ""))
        time.sleep(0.1)


def need(condition: object, what: str) -> None:
    """Raise Failed unless a condition holds."""
    if not condition:
        raise Failed(what)
