"""The stages of a Dockerfile: what each is made from, which of them a target needs, and in what order. Purely."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pycompose.worker.builder.errors import BuildError, nearest
from pycompose.worker.builder.expansion import ExpansionError, expand
from pycompose.worker.builder.instructions import Arg, Copy, From, Instruction, Run
from pycompose.worker.builder.mountwords import MountError, parse_mount

SCRATCH = "scratch"


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        index: from 0; `name`: its own, or "".
        base: its FROM; `image`: what that names, variables replaced; `platform` likewise.
        instructions: what follows.
    """

    index: int
    name: str
    base: From
    image: str
    platform: str
    instructions: tuple[Instruction, ...]

    @property
    def title(self) -> str:
        """Its name for people."""
        return self.name or f"stage {self.index}"


@dataclass(frozen=True)
class Origin:
    """What a stage, a copy or a mount takes from: one of a stage's index, a named context, or an image."""

    stage: int | None = None
    context: str = ""
    image: str = ""


@dataclass(frozen=True)
class Stages:
    """All stages. `outer`: values of the ARGs before the first FROM; `contexts`: names of the build's contexts."""

    stages: tuple[Stage, ...]
    outer: Mapping[str, str]
    contexts: Collection[str]

    def target(self, name: str) -> Stage:
        """Return the stage to build: by name, by number, or the last. Raises BuildError."""
        if not name:
            return self.stages[-1]
        named = {stage.name: stage for stage in self.stages if stage.name}
        if name.lower() in named:
            return named[name.lower()]
        if name.isdecimal() and int(name) < len(self.stages):
            return self.stages[int(name)]
        known = nearest(name, named) if named else f"its {len(self.stages)} stages have no names"
        raise BuildError(f"the Dockerfile has no stage {name}; {known}")

    def base_of(self, stage: Stage) -> Origin:
        """Return what a stage begins with: an earlier stage, a context, an image, or nothing ("scratch")."""
        earlier = {one.name: one.index for one in self.stages[: stage.index] if one.name}
        if stage.image in self.contexts:
            return Origin(context=stage.image)
        if (index := earlier.get(stage.image.lower())) is not None:
            return Origin(stage=index)
        return Origin(image=stage.image)

    def origin(self, name: str, stage: Stage) -> Origin:
        """Return what `--from=NAME` in a stage means. Raises BuildError."""
        if name in self.contexts:
            return Origin(context=name)
        named = {one.name: one.index for one in self.stages if one.name}
        index = named.get(name.lower())
        if index is None and name.isdecimal():
            if int(name) >= stage.index:
                raise BuildError(f"--from={name}: there is no stage {name} before this one")
            index = int(name)
        return Origin(stage=index) if index is not None else Origin(image=name)

    def needed(self, target: Stage) -> list[Stage]:
        """Return the stages that a target needs, itself last, each after those that it needs.

        Raises DockerfileError: stages need one another.
        """
        done: dict[int, Stage] = {}
        trail: list[int] = []

        def visit(stage: Stage) -> None:
            if stage.index in done:
                return
            if stage.index in trail:
                names = [self.stages[index].title for index in [*trail[trail.index(stage.index) :], stage.index]]
                raise stage.base.statement.wrong(-1, f"stages need one another: {' -> '.join(names)}")
            trail.append(stage.index)
            for index in sorted(self.needs(stage)):
                visit(self.stages[index])
            trail.pop()
            done[stage.index] = stage

        visit(target)
        return list(done.values())

    def needs(self, stage: Stage) -> set[int]:
        """Return the stages that one takes from itself."""
        origins = [self.base_of(stage)]
        for step, name in froms(stage.instructions):
            try:
                origins.append(self.origin(name, stage))
            except BuildError as error:
                raise step.statement.wrong(-1, str(error)) from None
        return {origin.stage for origin in origins if origin.stage is not None}


def froms(instructions: Iterable[Instruction]) -> Iterator[tuple[Instruction, str]]:
    """Yield the names that instructions copy or mount from, as written."""
    for step in instructions:
        if isinstance(step, Copy) and step.origin:
            yield step, step.origin
        elif isinstance(step, Run):
            for text in step.mounts:
                try:
                    origin = parse_mount(text).origin
                except MountError:
                    continue
                if origin:
                    yield step, origin


def stages_of(
    instructions: Iterable[Instruction],
    given: Mapping[str, str],
    built_in: Mapping[str, str],
    contexts: Collection[str],
) -> Stages:
    """Divide a file's instructions into stages.

    Args:
        given: the build's arguments.
        built_in: TARGETPLATFORM and its like, by name.
        contexts: names of contexts that stand in an image's place.

    Raises:
        DockerfileError.
    """
    outer: dict[str, str] = {}
    found: list[Stage] = []
    inside: list[Instruction] = []
    for one in instructions:
        if isinstance(one, From):
            if found:
                found[-1] = _with(found[-1], inside)
            inside = []
            found.append(_begun(one, len(found), {**built_in, **outer}, found))
        elif found:
            inside.append(one)
        elif isinstance(one, Arg):
            for name, default in one.pairs:
                value = given.get(name)
                if value is None and default is not None:
                    value = expanded(one, default, {**built_in, **outer})
                if value is not None:
                    outer[name] = value
    found[-1] = _with(found[-1], inside)
    return Stages(tuple(found), outer, contexts)


def _with(stage: Stage, inside: list[Instruction]) -> Stage:
    return Stage(stage.index, stage.name, stage.base, stage.image, stage.platform, tuple(inside))


def _begun(base: From, index: int, variables: Mapping[str, str], before: list[Stage]) -> Stage:
    if base.name and base.name in {stage.name for stage in before}:
        raise base.statement.wrong(-1, f"two stages have the name {base.name}", "give one of them another")
    image = expanded(base, base.image, variables)
    if not image:
        raise base.statement.wrong(
            0,
            f"FROM {base.image} names nothing: its variables are empty",
            "give ARG a default, or --build-arg NAME=VALUE",
        )
    return Stage(index, base.name, base, image, expanded(base, base.platform, variables), ())


def expanded(step: Instruction, text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Return a text of an instruction with its variables replaced. Raises DockerfileError."""
    try:
        return expand(text, variables, escape)
    except ExpansionError as error:
        place = step.statement.rest.find(text)
        raise step.statement.wrong(place + error.offset if place >= 0 else -1, str(error)) from None
