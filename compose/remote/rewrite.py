"""A Compose file's text with some of its paths replaced; all else, comments included, stays as it was written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Replace = Callable[[str], "str | None"]
"""Give the new text of a path as it is written; None leaves it."""
_NO_PATHS = ("!reset", "tag:yaml.org,2002:null")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")


def rewrite(text: str, env_file: Replace, extends: Replace) -> str:
    """Return a Compose file with the paths of env files and of extended files replaced.

    Args:
        text: the file; the loader has read it without complaint.
        env_file, extends: give the new paths; each written place is asked once.
    """
    edits: dict[int, tuple[int, str]] = {}
    for document in yaml.compose_all(text, Loader=yaml.CSafeLoader):
        services = _entry(document, "services")
        for service in _values(services):
            found = [(node, env_file) for node in _env_files(_entry(service, "env_file"))]
            file = _entry(_entry(service, "extends"), "file")
            for node, replace in [*found, (file, extends)]:
                if (
                    isinstance(node, yaml.ScalarNode)
                    and node.tag not in _NO_PATHS
                    and (new := replace(node.value)) is not None
                ):
                    start, end = node.start_mark.index, node.end_mark.index
                    kept = _PROPERTIES.match(text[start:end])
                    edits[start + (kept.end() if kept else 0)] = (end, new)
    for start in sorted(edits, reverse=True):
        end, new = edits[start]
        text = text[:start] + new + text[end:]
    return text


def _entry(node: Any, key: str) -> Any:
    """Return the value of a mapping's key, also one that comes by a merge key; None where there is none."""
    if not isinstance(node, yaml.MappingNode):
        return None
    merged = None
    for name, value in node.value:
        if name.value == key:
            return value
        if name.value == "<<":
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                merged = merged or _entry(one, key)
    return merged


def _values(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield value


def _env_files(node: Any) -> list[Any]:
    entries = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [_entry(one, "path") if isinstance(one, yaml.MappingNode) else one for one in entries]
