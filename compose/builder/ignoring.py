"""`.dockerignore`: which files of a context are sent (Docker's documentation, "Dockerignore file")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pycompose.proto.patterns import Patterns

NAME = ".dockerignore"
Read = Callable[[str], str | None]


@dataclass(frozen=True)
class Ignored:
    """What is not sent. `file`: where that is written, "" when nothing is."""

    patterns: Patterns
    file: str = ""
    #: Whether a path below one that is left out may be taken back.
    takes_back: bool = False

    def match(self, path: str) -> bool:
        """Return whether a path (relative to the context) is left out."""
        return self.patterns.match(path)


def ignored(read: Read, context: str, dockerfile: str, always: Sequence[str] = ()) -> Ignored:
    """Return what a context leaves out.

    Args:
        read: gives a file's text, None when there is none.
        context: its folder.
        dockerfile: path of the Dockerfile; a file of its own beside it goes before the context's.
        always: paths that are sent in any case, relative to the context.
    """
    for path in (f"{dockerfile}{NAME}", f"{context}/{NAME}"):
        text = read(path)
        if text is not None:
            lines = [*text.removeprefix("\ufeff").splitlines(), *(f"!{one}" for one in always)]
            return Ignored(Patterns(lines), path, any(line.strip().startswith("!") for line in lines))
    return Ignored(Patterns(()))
