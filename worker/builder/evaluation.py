"""What the instructions of a stage do, one after the other, to the image's configuration and to its files. Purely.

`begun` makes the state of a stage from the image below; `apply` takes one instruction and returns the next state, and
what is to be done to the files: an operation, or None.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pycompose.worker.builder.expansion import ExpansionError, expand, words
from pycompose.worker.builder.instructions import (
    Arg,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    Mount,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)
from pycompose.worker.builder.mountwords import MountError, parse_mount
from pycompose.worker.builder.source import Heredoc
from pycompose.worker.builder.stages import expanded

DEFAULT_SHELL = ("/bin/sh", "-c")
#: Arguments that nobody declares, and that change neither history nor cache.
PREDEFINED = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
_PREDEFINED = frozenset(name for one in PREDEFINED for name in (one, one.lower()))
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?\Z", re.IGNORECASE)


@dataclass(frozen=True)
class RunOperation:
    """Run a command over the files so far.

    Attributes:
        arguments: the program and its arguments.
        script: the text of a here-document that is itself the program (it begins with "#!"); "" otherwise.
        environment: the image's and the build's variables; `hidden`: those that change no cache.
        user, folder: as whom, and where.
        mounts, network, security: as `Run` has them, variables replaced.
    """

    arguments: tuple[str, ...]
    script: str
    environment: tuple[tuple[str, str], ...]
    hidden: tuple[tuple[str, str], ...]
    user: str
    folder: str
    mounts: tuple[Mount, ...]
    network: str
    security: str


@dataclass(frozen=True)
class CopyOperation:
    """Copy files into the image.

    Attributes:
        sources: as written, variables replaced; `files`: (name, content) of here-documents.
        target: absolute; a "/" at its end says that it is a folder.
        origin: "" for the build's context; else what `--from` says.
        owner, mode: "" for root's, and for what they were.
        add: archives are unpacked and URLs fetched.
    """

    sources: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    target: str
    origin: str
    owner: str
    mode: str
    add: bool
    link: bool
    parents: bool
    exclude: tuple[str, ...]
    checksum: str
    keep_git_folder: bool
    unpack: bool | None


@dataclass(frozen=True)
class FolderOperation:
    """Make a folder that is not there (WORKDIR), as a user."""

    path: str
    user: str


Operation = RunOperation | CopyOperation | FolderOperation


@dataclass(frozen=True)
class State:
    """A stage so far.

    Attributes:
        settings: the image's ``config`` object.
        author: of the image.
        declared: ARGs of this stage with a value.
        given: the build's arguments; `outer`: values of ARGs before the first FROM; `built_in`: TARGETPLATFORM, ….
        shell: what runs shell forms; `command_here`: CMD is of this stage, not of the image below.
        history: the configuration's ``history`` of this stage; a step that changes files has no "empty_layer".
        escape: the file's.
    """

    settings: Mapping[str, Any]
    given: Mapping[str, str]
    outer: Mapping[str, str]
    built_in: Mapping[str, str]
    author: str = ""
    declared: Mapping[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = DEFAULT_SHELL
    command_here: bool = False
    history: tuple[Mapping[str, Any], ...] = ()
    escape: str = "\\"

    @property
    def environment(self) -> dict[str, str]:
        """The image's variables."""
        return dict(pair.partition("=")[::2] for pair in self.settings.get("Env") or ())

    @property
    def variables(self) -> dict[str, str]:
        """What a text of an instruction may name: ENV goes before ARG."""
        return {**self.declared, **self.environment}

    @property
    def folder(self) -> str:
        """Where commands run, and relative paths begin."""
        return str(self.settings.get("WorkingDir") or "/")

    def set(self, **changes: Any) -> State:
        """Return it with some of the configuration changed; None takes a key away."""
        found = {key: value for key, value in {**self.settings, **changes}.items() if value is not None}
        return replace(self, settings=found)


def begun(
    config: Mapping[str, Any],
    given: Mapping[str, str],
    outer: Mapping[str, str],
    built_in: Mapping[str, str],
    escape: str = "\\",
) -> tuple[State, tuple[str, ...]]:
    """Return the state at the begin of a stage, and the instructions that the image below brings (ONBUILD).

    Args:
        config: the image configuration below ("config", "author", …); {} for scratch.
        given, outer, built_in, escape: as of `State`.
    """
    settings = dict(config.get("config") or {})
    triggers = tuple(settings.pop("OnBuild", None) or ())
    shell = tuple(settings.get("Shell") or DEFAULT_SHELL)
    if not settings.get("Env"):
        settings["Env"] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    state = State(settings, given, outer, built_in, str(config.get("author") or ""), shell=shell, escape=escape)
    return state, triggers


def apply(state: State, step: Instruction) -> tuple[State, Operation | None]:
    """Carry out one instruction. Raises DockerfileError."""
    operation: Operation | None = None
    text = shown(step)
    if isinstance(step, Run):
        operation = _run(state, step)
        names = [f"{name}={value}" for name, value in state.declared.items() if name not in _PREDEFINED]
        text = f"RUN {f'|{len(names)} ' + ' '.join(names) + ' ' if names else ''}{' '.join(operation.arguments)}"
    elif isinstance(step, Copy):
        operation = _copy(state, step)
    elif isinstance(step, Workdir):
        path = posixpath.normpath(posixpath.join(state.folder, _expand(state, step, step.path.strip())))
        path = "/" + path.lstrip("/")
        state = state.set(WorkingDir=path)
        operation = FolderOperation(path, str(state.settings.get("User") or ""))
    else:
        state = _settings(state, step)
    entry: dict[str, Any] = {"created_by": f"{text} # buildkit" if operation else text}
    if operation is None:
        entry["empty_layer"] = True
    return replace(state, history=(*state.history, entry)), operation


def shown(step: Instruction) -> str:
    """Return an instruction in one line, for people."""
    return f"{step.word} {' '.join(step.statement.rest.split())}"


def _expand(state: State, step: Instruction, text: str) -> str:
    return expanded(step, text, state.variables, state.escape)


def _words(state: State, step: Instruction, text: str) -> list[str]:
    try:
        return words(text, state.variables, state.escape)
    except ExpansionError as error:
        raise step.statement.wrong(-1, str(error)) from None


def _settings(state: State, step: Instruction) -> State:
    """Return the state after an instruction that changes the configuration alone."""
    match step:
        case Arg():
            return _arg(state, step)
        case Env():
            found = state.environment
            # all values of one ENV see the variables from before it
            found.update({_expand(state, step, name): _expand(state, step, value) for name, value in step.pairs})
            return state.set(Env=[f"{name}={value}" for name, value in found.items()])
        case Label():
            pairs = {_expand(state, step, name): _expand(state, step, value) for name, value in step.pairs}
            return state.set(Labels={**(state.settings.get("Labels") or {}), **pairs})
        case Cmd():
            return replace(state.set(Cmd=_command(state, step.command) or None), command_here=True)
        case Entrypoint():
            kept = state.settings.get("Cmd") if state.command_here else None
            return state.set(Entrypoint=_command(state, step.command) or None, Cmd=kept)
        case Expose():
            return state.set(ExposedPorts={**(state.settings.get("ExposedPorts") or {}), **_ports(state, step)})
        case Volume():
            paths: dict[str, Any] = {_expand(state, step, path): {} for path in step.paths}
            return state.set(Volumes={**(state.settings.get("Volumes") or {}), **paths})
        case User():
            return state.set(User=_expand(state, step, step.user))
        case StopSignal():
            return state.set(StopSignal=_expand(state, step, step.signal))
        case HealthCheck():
            return state.set(Healthcheck=_healthcheck(step))
        case Shell():
            return replace(state.set(Shell=list(step.words)), shell=step.words)
        case OnBuild():
            return state.set(OnBuild=[*(state.settings.get("OnBuild") or ()), step.inner])
        case Maintainer():
            return replace(state, author=step.name)
    raise AssertionError(step.word)


def _arg(state: State, step: Arg) -> State:
    declared = dict(state.declared)
    for name, default in step.pairs:
        value = state.given.get(name)
        if value is None and default is not None:
            value = _expand(replace(state, declared=declared), step, default)
        if value is None:
            value = state.outer.get(name, state.built_in.get(name))
        if value is not None:
            declared[name] = value
    return replace(state, declared=declared)


def _command(state: State, command: Command) -> list[str]:
    return list(command.words) if command.words is not None else [*state.shell, command.text]


def _ports(state: State, step: Expose) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in step.ports:
        for word in _words(state, step, text):
            match = _PORT.match(word)
            first = int(match[1]) if match else -1
            last = int(match[2] or match[1]) if match else -1
            if match is None or not 0 <= first <= last < 65536:
                raise step.statement.wrong(-1, f"EXPOSE {word}: not a port", "write 8080, 8080/udp or 8000-8010")
            protocol = (match[3] or "tcp").lower()
            found.update({f"{port}/{protocol}": {} for port in range(first, last + 1)})
    return found


def _healthcheck(step: HealthCheck) -> dict[str, Any]:
    if step.command is None:
        return {"Test": ["NONE"]}
    command = step.command
    test = ["CMD", *command.words] if command.words is not None else ["CMD-SHELL", command.text]
    return {"Test": test, **dict(step.times), **({"Retries": step.retries} if step.retries is not None else {})}


def _run(state: State, step: Run) -> RunOperation:
    command, script = step.command, ""
    if command.words is not None:
        arguments: tuple[str, ...] = command.words
    else:
        arguments, script = _shell_form(state, command)
    mounts = []
    for text in step.mounts:
        try:
            mounts.append(parse_mount(_expand(state, step, text)))
        except MountError as error:
            raise step.statement.wrong(0, f"--mount={text}: {error}") from None
    hidden = {name: value for name, value in state.given.items() if name in _PREDEFINED and name not in state.declared}
    return RunOperation(
        arguments,
        script,
        tuple(sorted(state.variables.items())),
        tuple(sorted(hidden.items())),
        str(state.settings.get("User") or ""),
        state.folder,
        tuple(mounts),
        step.network,
        step.security,
    )


def _shell_form(state: State, command: Command) -> tuple[tuple[str, ...], str]:
    """Return arguments, and the script when a here-document is the whole command and says what runs it."""
    if not command.heredocs:
        return (*state.shell, command.text), ""
    if len(command.heredocs) == 1 and re.fullmatch(r"\d*<<-?(['\"]?)[\w.-]+\1", command.text.strip()):
        text = command.heredocs[0].text
        return ((), text) if text.startswith("#!") else ((*state.shell, text), "")
    # the shell itself reads them; what they hold is its to expand
    bodies = "".join(f"{one.text}{one.name}\n" for one in command.heredocs)
    return (*state.shell, f"{command.text}\n{bodies}"), ""


def _copy(state: State, step: Copy) -> CopyOperation:
    target = _expand(state, step, step.target)
    folder = target.endswith(("/", "/.")) or target in (".", "")
    path = posixpath.normpath(posixpath.join(state.folder, target))
    path = "/" + path.lstrip("/")
    sources = tuple(_expand(state, step, source) for source in step.sources)
    if len(sources) + len(step.heredocs) > 1 and not folder:
        raise step.statement.wrong(
            step.statement.rest.rfind(step.target),
            f"{step.target}: several files need a folder",
            "write a / at its end",
        )
    files = tuple((one.name, _content(state, step, one)) for one in step.heredocs)
    return CopyOperation(
        sources,
        files,
        path.rstrip("/") + "/" if folder else path,
        step.origin,
        _expand(state, step, step.owner),
        _expand(state, step, step.mode),
        step.add,
        step.link,
        step.parents,
        tuple(_expand(state, step, text) for text in step.exclude),
        _expand(state, step, step.checksum),
        step.keep_git_folder,
        step.unpack,
    )


def _content(state: State, step: Copy, heredoc: Heredoc) -> str:
    if not heredoc.expand:
        return heredoc.text
    try:
        return expand(heredoc.text, state.variables, state.escape, quotes=False)
    except ExpansionError as error:
        raise step.statement.wrong(-1, f"in the here-document {heredoc.name}: {error}") from None


def encoded(operation: Operation) -> bytes:
    """Return what of an operation decides on its result, for the cache; the files that it reads come beside."""
    fields = {name: value for name, value in vars(operation).items() if name != "hidden"}
    named = {"operation": type(operation).__name__} | fields
    return json.dumps(named, default=vars, sort_keys=True).encode()
