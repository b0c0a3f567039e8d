"""What the instructions of a Dockerfile say ("Dockerfile reference"), before any variable is replaced."""

from __future__ import annotations

from dataclasses import dataclass, field

from pycompose.worker.builder.source import Heredoc, Statement


@dataclass(frozen=True)
class Instruction:
    """One instruction. `statement`: where it is written."""

    statement: Statement

    @property
    def word(self) -> str:
        """Its name, in capital letters."""
        return self.statement.word


@dataclass(frozen=True)
class Command:
    """A command: `words` of the exec form (None: shell form), `text` of the shell form, here-documents of it."""

    words: tuple[str, ...] | None
    text: str = ""
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True)
class From(Instruction):
    """A stage begins: on an image, another stage, a named context or "scratch". `name`: the stage's own, or ""."""

    image: str
    name: str
    platform: str = ""


@dataclass(frozen=True)
class Arg(Instruction):
    """Variables of the build. `pairs`: (name, default as written); None: no default."""

    pairs: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Env(Instruction):
    """Variables of the image. `pairs`: (name, value as written)."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Label(Instruction):
    """Labels. `pairs`: (name, value), both as written."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Mount:
    """A mount of RUN, as its reference has it; `kind`: bind, cache, tmpfs, secret or ssh."""

    kind: str = "bind"
    target: str = ""
    source: str = ""
    origin: str = ""
    read_only: bool = False
    id: str = ""
    sharing: str = "shared"
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int = 0
    variable: str = ""


@dataclass(frozen=True)
class Run(Instruction):
    """A command in a container of the stage so far. `mounts`: as written; `network`: default, none or host."""

    command: Command
    mounts: tuple[str, ...] = ()
    network: str = "default"
    security: str = "sandbox"


@dataclass(frozen=True)
class Copy(Instruction):
    """COPY and ADD. Everything as written; `sources` and `target` are paths, URLs, or here-documents' names."""

    sources: tuple[str, ...]
    target: str
    heredocs: tuple[Heredoc, ...] = ()
    add: bool = False
    origin: str = ""
    owner: str = ""
    mode: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_folder: bool = False
    unpack: bool | None = None


@dataclass(frozen=True)
class Cmd(Instruction):
    """What a container runs, or the arguments of the entrypoint."""

    command: Command


@dataclass(frozen=True)
class Entrypoint(Instruction):
    """What a container runs."""

    command: Command


@dataclass(frozen=True)
class Expose(Instruction):
    """Ports, as written."""

    ports: tuple[str, ...]


@dataclass(frozen=True)
class Volume(Instruction):
    """Folders that become volumes, as written."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class User(Instruction):
    """Who runs what comes after."""

    user: str


@dataclass(frozen=True)
class Workdir(Instruction):
    """Where what comes after runs."""

    path: str


@dataclass(frozen=True)
class OnBuild(Instruction):
    """An instruction for the builds of images upon this one."""

    inner: str


@dataclass(frozen=True)
class StopSignal(Instruction):
    """What ends a container."""

    signal: str


@dataclass(frozen=True)
class HealthCheck(Instruction):
    """How a container's health is found; `command` None: not at all. Times in ns by their name in the configuration."""

    command: Command | None
    times: tuple[tuple[str, int], ...] = field(default=())
    retries: int | None = None


@dataclass(frozen=True)
class Shell(Instruction):
    """What runs the shell form of commands."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Maintainer(Instruction):
    """Who made the image (deprecated)."""

    name: str
