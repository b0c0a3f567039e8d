"""What looks like a secret in text that is about to be published. A warning for people, not a proof of anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_FORMS = (
    ("AWS access key", re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})\b")),
    ("GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}\b")),
    ("Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b")),
    ("JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\b")),
    ("private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")),
    ("password in a URL", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s:/@]+:(?!\$)[^\s:/@]+@")),
)
_KEYWORD = re.compile(
    r"""(?ix) ^[\s"'-]* (?P<key>[a-z0-9_.-]* (?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|private[_-]?key)
    [a-z0-9_.-]*) ["']? \s* [=:] \s* ["']? (?P<value>[^\s"'#]{4,})"""
)
_HARMLESS = re.compile(r"(?i)\$|/|true\b|false\b|null\b|file\b|environment\b|external\b|[\[{&*!|>]")


class Finding(NamedTuple):
    """One place: its line counts from 1; the secret itself is not kept."""

    kind: str
    key: str
    line: int


def findings(text: str) -> Iterator[Finding]:
    """Yield what looks like a secret, at most one thing a line."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > 10_000:
            line = line[:10_000]
        keyword = _KEYWORD.match(line)
        key = keyword["key"] if keyword else line.strip().partition(":")[0].partition("=")[0][:40]
        form = next((name for name, pattern in _FORMS if pattern.search(line)), "")
        if form:
            yield Finding(form, key, number)
        elif keyword and not _HARMLESS.match(keyword["value"]):
            yield Finding("password or key by its name", key, number)
