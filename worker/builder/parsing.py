"""Statements of a Dockerfile to instructions ("Dockerfile reference")."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pycompose.worker.builder.errors import DockerfileError, nearest
from pycompose.worker.builder.expansion import ExpansionError, split
from pycompose.worker.builder.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from pycompose.worker.builder.mountwords import check_mount
from pycompose.worker.builder.source import Source, Statement, statement_of

#: Flags of each instruction: "text" (one value), "texts" (any number), "switch".
FLAGS = {
    "ADD": {
        "chown": "text",
        "chmod": "text",
        "link": "switch",
        "checksum": "text",
        "keep-git-dir": "switch",
        "exclude": "texts",
        "unpack": "switch",
    },
    "COPY": {
        "from": "text",
        "chown": "text",
        "chmod": "text",
        "link": "switch",
        "parents": "switch",
        "exclude": "texts",
    },
    "FROM": {"platform": "text"},
    "HEALTHCHECK": {
        "interval": "text",
        "timeout": "text",
        "start-period": "text",
        "start-interval": "text",
        "retries": "text",
    },
    "RUN": {"mount": "texts", "network": "text", "security": "text"},
}
_STAGE = re.compile(r"[a-z][a-z0-9._-]*\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse(source: Source) -> list[Instruction]:
    """Return a file's instructions. Raises DockerfileError."""
    found = [instruction(statement, source.escape) for statement in source.statements]
    for one in found:
        if isinstance(one, From):
            break
        if not isinstance(one, Arg):
            raise one.statement.wrong(-1, f"{one.word} comes before the first FROM", "only ARG may stand there")
    else:
        raise DockerfileError(1, 0, "there is no FROM in the file", "begin with FROM IMAGE")
    return found


def instruction(statement: Statement, escape: str) -> Instruction:
    """Return what one statement says. Raises DockerfileError."""
    make = _MAKERS.get(statement.word)
    if make is None:
        raise DockerfileError(
            statement.first, 1, f"unknown instruction {statement.word}", nearest(statement.word, _MAKERS)
        )
    words = _Words(statement, escape)
    words.take_flags(FLAGS.get(statement.word, {}))
    if not words.rest.strip() and not (statement.word in ("CMD", "ENTRYPOINT") and statement.rest):
        raise DockerfileError(statement.first, 0, f"{statement.word} needs an argument")
    return make(words)


@dataclass
class _Words:
    """A statement being taken apart: its flags, then what is left of it."""

    statement: Statement
    escape: str

    def __post_init__(self) -> None:
        self.offset, self.flags = 0, dict[str, list[str]]()

    @property
    def rest(self) -> str:
        return self.statement.rest[self.offset :]

    def take_flags(self, known: dict[str, str]) -> None:
        """Take the words that begin with "--"; "--" alone ends them."""
        while True:
            blank = len(self.rest) - len(self.rest.lstrip())
            if not self.rest[blank:].startswith("--"):
                self.offset += blank
                return
            word, _ = self._split(self.rest[blank:], first=True)[0]
            begin = self.offset + blank
            self.offset = begin + len(word)
            if word == "--":
                continue
            name, equals, value = word[2:].partition("=")
            if name not in known:
                remedy = nearest(name, known) if known else "it has none"
                raise self.statement.wrong(
                    begin, f"{self.statement.word} has no flag --{name}", _flagged(remedy, known)
                )
            self._keep(name, known[name], equals, value, begin)

    def _keep(self, name: str, kind: str, equals: str, value: str, begin: int) -> None:
        if kind == "switch":
            if equals and value not in ("true", "false"):
                raise self.statement.wrong(begin, f"--{name}={value}", "use true or false")
            value = value or "true"
        elif not equals or not value:
            raise self.statement.wrong(begin, f"--{name} needs a value", f"write --{name}=VALUE")
        if kind != "texts" and name in self.flags:
            raise self.statement.wrong(begin, f"--{name} is there twice", "keep one of them")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        self.flags.setdefault(name, []).append(value)

    def _split(self, text: str, *, first: bool = False) -> list[tuple[str, int]]:
        try:
            return split(text.split(None, 1)[0] if first and not re.search(r"['\"]", text) else text, self.escape)
        except ExpansionError as error:
            raise self.statement.wrong(self.offset + error.offset, str(error)) from None

    def words(self) -> list[tuple[str, int]]:
        """Return what is left as words with their offsets."""
        return [(word, self.offset + offset) for word, offset in self._split(self.rest)]

    def plain(self) -> list[str]:
        """Return what is left, split at blanks alone."""
        return self.rest.split()

    def text(self, name: str, default: str = "") -> str:
        return self.flags.get(name, [default])[-1]

    def switch(self, name: str) -> bool:
        return self.text(name) == "true"

    def wrong(self, message: str, remedy: str = "", offset: int | None = None) -> DockerfileError:
        return self.statement.wrong(self.offset if offset is None else offset, message, remedy)

    def json(self) -> tuple[str, ...] | None:
        """Return a JSON list of texts; None when it is none."""
        if not self.rest.startswith("["):
            return None
        try:
            found = json.loads(self.rest)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            return None
        return tuple(found)

    def command(self) -> Command:
        """Return exec form or shell form."""
        found = self.json()
        return Command(found) if found is not None else Command(None, self.rest, self.statement.heredocs)

    def one(self, what: str) -> str:
        """Return the only argument."""
        if len(self.words()) != 1:
            raise self.wrong(f"{self.statement.word} takes one argument: {what}")
        return self.rest

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Return "A=B C=D", or the one pair of the old form "A B"."""
        found = self.words()
        if "=" not in found[0][0]:
            name, _, value = self.rest.partition(" ")
            if not value.strip():
                raise self.wrong(
                    f"{self.statement.word} {name} has no value", f"write {self.statement.word} {name}=VALUE"
                )
            return ((name, value.strip()),)
        pairs = []
        for word, offset in found:
            name, equals, value = word.partition("=")
            if not equals or not name:
                raise self.wrong(f"{word!r} is not NAME=VALUE", "quote a value that has blanks", offset)
            pairs.append((name, value))
        return tuple(pairs)


def _flagged(remedy: str, known: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(map(re.escape, known))})\b", r"--\1", remedy) if known else remedy


def _from(words: _Words) -> From:
    parts = words.plain()
    if len(parts) == 3 and parts[1].upper() == "AS":
        name = parts[2].lower()
        if not _STAGE.match(name):
            raise words.wrong(
                f"{parts[2]!r} cannot be a stage's name", "use letters, digits, _ - and ., a letter first"
            )
    elif len(parts) == 1:
        name = ""
    else:
        raise words.wrong("FROM takes an image, or an image, AS and a name", "write FROM IMAGE AS NAME")
    return From(words.statement, parts[0], name, words.text("platform"))


def _arg(words: _Words) -> Arg:
    pairs: list[tuple[str, str | None]] = []
    for word, offset in words.words():
        name, equals, value = word.partition("=")
        if not _NAME.match(name):
            raise words.wrong(f"{name!r} cannot be a variable's name", "use letters, digits and _", offset)
        pairs.append((name, value if equals else None))
    return Arg(words.statement, tuple(pairs))


def _run(words: _Words) -> Run:
    network, security = words.text("network", "default"), words.text("security", "sandbox")
    if network not in ("default", "none", "host"):
        raise words.wrong(f"--network={network}", "use default, none or host", 0)
    if security not in ("sandbox", "insecure"):
        raise words.wrong(f"--security={security}", "use sandbox or insecure", 0)
    mounts = tuple(words.flags.get("mount", ()))
    for text in mounts:
        if reason := check_mount(text):
            raise words.wrong(f"--mount={text}: {reason}", offset=0)
    return Run(words.statement, words.command(), mounts, network, security)


def _copy(words: _Words) -> Copy:
    found = words.json()
    parts = [word for word, _ in words.words()] if found is None else list(found)
    if len(parts) < 2:
        raise words.wrong(f"{words.statement.word} needs a source and a target", "write SOURCE… TARGET")
    announced = [part for part in parts[:-1] if part.startswith("<<")] if found is None else []
    sources = [part for part in parts[:-1] if part not in announced]
    if words.text("from") and announced:
        raise words.wrong("--from cannot go with a here-document", offset=0)
    made = Copy(
        words.statement,
        tuple(sources),
        parts[-1],
        words.statement.heredocs if announced else (),
        add=words.statement.word == "ADD",
        origin=words.text("from"),
        owner=words.text("chown"),
        mode=words.text("chmod"),
        link=words.switch("link"),
        parents=words.switch("parents"),
        exclude=tuple(words.flags.get("exclude", ())),
        checksum=words.text("checksum"),
        keep_git_folder=words.switch("keep-git-dir"),
    )
    return replace(made, unpack=words.switch("unpack")) if "unpack" in words.flags else made


def _healthcheck(words: _Words) -> HealthCheck:
    kind, _, _ = words.rest.partition(" ")
    if kind.upper() == "NONE":
        if words.rest.strip().upper() != "NONE" or words.flags:
            raise words.wrong("HEALTHCHECK NONE takes nothing beside it")
        return HealthCheck(words.statement, None)
    if kind.upper() != "CMD" or not words.rest[len(kind) :].strip():
        raise words.wrong(f"HEALTHCHECK {kind}", "write HEALTHCHECK [OPTIONS] CMD COMMAND, or HEALTHCHECK NONE")
    times = tuple(
        (key, _nanoseconds(words, flag, words.text(flag))) for flag, key in _TIMES.items() if flag in words.flags
    )
    retries = words.text("retries", "0")
    if not retries.isdecimal():
        raise words.wrong(f"--retries={retries}", "give a number", 0)
    words.offset += len(kind) + len(words.rest[len(kind) :]) - len(words.rest[len(kind) :].lstrip())
    return HealthCheck(words.statement, words.command(), times, int(retries) if "retries" in words.flags else None)


def _nanoseconds(words: _Words, flag: str, text: str) -> int:
    if not re.fullmatch(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+", text):
        raise words.wrong(f"--{flag}={text}: not a duration", "write 30s or 1m30s", 0)
    found = sum(round(float(number) * _UNITS[unit]) for number, unit in re.findall(r"([\d.]+)([a-zµ]+)", text))
    if 0 < found < 1_000_000:
        raise words.wrong(f"--{flag}={text}: too short", "give 1ms at least", 0)
    return found


def _onbuild(words: _Words) -> OnBuild:
    inner = statement_of(words.rest, words.statement)
    if inner.word in ("ONBUILD", "FROM", "MAINTAINER"):
        raise words.wrong(f"{inner.word} cannot stand after ONBUILD")
    instruction(inner, words.escape)
    return OnBuild(words.statement, words.rest)


def _shell(words: _Words) -> Shell:
    found = words.json()
    if not found:
        raise words.wrong("SHELL takes a JSON list", 'write SHELL ["/bin/sh", "-c"]')
    return Shell(words.statement, found)


def _listed(words: _Words) -> Sequence[str]:
    found = words.json()
    return found if found is not None else [word for word, _ in words.words()]


def _volume(words: _Words) -> Volume:
    paths = tuple(_listed(words))
    if not paths or not all(path.strip() for path in paths):
        raise words.wrong("VOLUME takes paths that are not empty")
    return Volume(words.statement, paths)


_MAKERS: dict[str, Callable[[_Words], Instruction]] = {
    "ADD": _copy,
    "ARG": _arg,
    "CMD": lambda words: Cmd(words.statement, words.command()),
    "COPY": _copy,
    "ENTRYPOINT": lambda words: Entrypoint(words.statement, words.command()),
    "ENV": lambda words: Env(words.statement, words.pairs()),
    "EXPOSE": lambda words: Expose(words.statement, tuple(word for word, _ in words.words())),
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": lambda words: Label(words.statement, words.pairs()),
    "MAINTAINER": lambda words: Maintainer(words.statement, words.rest),
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": lambda words: StopSignal(words.statement, words.one("a signal")),
    "USER": lambda words: User(words.statement, words.one("a user")),
    "VOLUME": _volume,
    "WORKDIR": lambda words: Workdir(words.statement, words.rest),
}
