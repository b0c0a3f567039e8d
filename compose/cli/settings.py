"""What the global flags say, and what every command makes of them: the project, its name, a client."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from pycompose.compose.cli.errors import CliError, UsageError
from pycompose.compose.cli.saying import say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pycompose.compose.cli.display import Display
    from pycompose.compose.client import Client, Target
    from pycompose.compose.loader import Fetched, Model, Project
    from pycompose.compose.remote.artifacts import Registry
    from pycompose.compose.remote.fetch import Remotes


@dataclass
class Settings:
    """The global flags. `warned` keeps a warning from being printed twice; `offline`: nothing remote is asked for."""

    files: tuple[str, ...] = ()
    project_name: str | None = None
    project_directory: str | None = None
    profiles: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    ansi: str = "auto"
    progress: str = "auto"
    all_resources: bool = False
    dry_run: bool = False
    parallel: int = -1
    compatibility: bool = False
    host: str = ""
    context: str = ""
    trust_remote: bool = False
    offline: bool = False
    lock_wait: float | None = None
    warned: set[str] = field(default_factory=set)
    _dotenv: dict[str, str] | None = None
    _remotes: Remotes | None = None
    _target: Target | None = None

    def warn(self, text: str) -> None:
        """Print a warning once, on stderr."""
        if text not in self.warned:
            self.warned.add(text)
            say(f"warning: {text}")

    def variable(self, name: str) -> str:
        """Return one of the COMPOSE_ variables: the caller's, else that of the env files, else ""."""
        if name in os.environ:
            return os.environ[name]
        if self._dotenv is None:
            from pycompose.compose.loader import LoadError, default_environment

            # what is wrong with them is said where the project is loaded
            self._dotenv = {}
            with suppress(LoadError, FileNotFoundError):
                own = {key: value for key, value in os.environ.items() if key == "COMPOSE_DISABLE_ENV_FILE"}
                self._dotenv = default_environment(self._directory(), own, self._env_files() or None)
        return self._dotenv.get(name, "")

    def truth(self, name: str) -> bool:
        """Return whether a COMPOSE_ variable is set to a true word."""
        return self.variable(name).lower() in ("1", "t", "true", "y", "yes", "on")

    def environment(self) -> dict[str, str]:
        """Return the caller's variables completed from the env files."""
        from pycompose.compose.loader import default_environment

        return default_environment(self._directory(), os.environ, self._env_files() or None, warn=self.warn)

    def remotes(self) -> Remotes:
        """Return what fetches remote files, made when one is named."""
        if self._remotes is None:
            from pycompose.compose.remote.cache import Cache, folder
            from pycompose.compose.remote.fetch import Remotes
            from pycompose.compose.remote.git import Git

            cache = Cache(folder(os.environ))
            self._remotes = Remotes(cache, Git(os.environ), self._registry, os.environ, self.warn, offline=self.offline)
        return self._remotes

    def _registry(self) -> Registry:
        from pycompose.compose.remote.artifacts import NodeRegistry

        return NodeRegistry(self.client)

    def _fetch(self, written: str) -> Fetched:
        return self.remotes().fetch(written)

    def sources(self) -> list[str]:
        """Return the files to load: those named, else those found.

        Raises:
            NoComposeFileError: there is none.
        """
        from pycompose.compose.loader import discover_files

        if self.files:
            return list(self.files)
        return discover_files(self._directory(), self.environment(), warn=self.warn)

    def load(
        self,
        services: Sequence[str] = (),
        *,
        all_resources: bool = False,
        interpolate: bool = True,
        normalise: bool = True,
        resolve_paths: bool = True,
        check_consistency: bool = True,
        resolve_environment: bool = True,
        all_env_files: bool = False,
    ) -> Project:
        """Load the project; with `services`, only those and what they depend on. Its warnings are printed.

        Raises:
            LoadError: the files are wrong.
        """
        from pycompose.compose.loader import load

        project = load(
            self.sources(),
            project_directory=self.project_directory,
            project_name=self.project_name,
            environment=os.environ,
            env_files=self._env_files() or None,
            profiles=self.profiles,
            services=list(services) or None,
            interpolate=interpolate,
            normalise=normalise,
            resolve_paths=resolve_paths,
            check_consistency=check_consistency,
            resolve_environment=resolve_environment,
            all_env_files=all_env_files,
            all_resources=all_resources or self.all_resources,
            fetch=self._fetch,
            trust_remote=self.trusts_remote(),
        )
        for warning in project.warnings:
            self.warn(warning)
        return project

    def load_model(self, *, normalise: bool = True, resolve_paths: bool = True) -> Model:
        """Load the project's files without interpolating them. Its warnings are printed.

        Raises:
            LoadError: the files are wrong.
        """
        from pycompose.compose.loader import load_model

        model = load_model(
            self.sources(),
            project_directory=self.project_directory,
            project_name=self.project_name,
            environment=os.environ,
            env_files=self._env_files() or None,
            normalise=normalise,
            resolve_paths=resolve_paths,
            fetch=self._fetch,
            trust_remote=self.trusts_remote(),
        )
        for warning in model.warnings:
            self.warn(warning)
        return model

    def trusts_remote(self) -> bool:
        """Return whether remote files may name any path of this machine."""
        return self.trust_remote or self.truth("PYCOMPOSE_TRUST_REMOTE")

    def known_project(self) -> Project | None:
        """Load the project unless the command line names only its name, as Docker Compose does."""
        if not self.files and (self.project_name or self.variable("COMPOSE_PROJECT_NAME")):
            return None
        from pycompose.compose.loader.init_services import with_init_services

        return with_init_services(self.load())

    def name(self) -> str:
        """Return the project's name, from the flag, the environment, or the files."""
        if not self.files:
            name = self.project_name or self.variable("COMPOSE_PROJECT_NAME")
            if name:
                from pycompose.compose.loader import default_project_name

                return default_project_name(os.getcwd(), {}, name)
        return self.load().name

    def client(self, *, start: bool = True) -> Client:
        """Return a client of the node; with `start`, one is started when none answers. A dry run only reads."""
        from pycompose.compose.client import Client

        start = start and not self.dry_run
        return Client(self.target(), start=start, tell=self.tell, read_only=self.dry_run)

    def target(self) -> Target:
        """Return what this command talks to.

        Raises:
            ClientError: the flags or the environment name what is not there.
        """
        if self._target is None:
            from pycompose.compose.client import target_of

            self._target = target_of(self.context, self.host)
        return self._target

    @property
    def at_once(self) -> int:
        """How many images are pulled at a time."""
        return self.parallel if self.parallel > 0 else 8

    def display(self, title: str = "Running", *, quiet: bool = False) -> Display:
        """Return a display of progress, on standard error unless COMPOSE_STATUS_STDOUT says otherwise."""
        from pycompose.compose.cli.display import Display

        stream = sys.stdout if self.truth("COMPOSE_STATUS_STDOUT") else sys.stderr
        mode = "quiet" if quiet else self.progress
        # whose containers these are is said first where it is not this machine's own node
        target = self.target()
        title = title if target.local else f"{title} on {target.label}"
        return Display(mode, colour=self.colour(stream.isatty()), title=title, stream=stream)

    def would(self, steps: Iterable[str]) -> None:
        """Print what a dry run would do."""
        lines = list(steps)
        print("\n".join(lines) if lines else "nothing to do", file=sys.stdout if lines else sys.stderr)

    def command_prefix(self) -> str:
        """Return what a further command about this project begins with: "pycompose -f other.yaml "."""
        import shlex

        words = ["pycompose"]
        for flag, value in (("-c", self.context), ("-H", self.host)):
            words += [flag, shlex.quote(value)] if value else []
        for flag, values in (("-f", self.files), ("--profile", self.profiles), ("--env-file", self.env_files)):
            words += [word for value in values for word in (flag, shlex.quote(value))]
        if self.project_name:
            words += ["-p", shlex.quote(self.project_name)]
        return " ".join(words) + " "

    def tell(self, text: str) -> None:
        """Print a notice on stderr, unless progress is off."""
        if self.progress != "quiet":
            say(text)

    def colour(self, stream_is_tty: bool) -> bool:
        """Return whether to print colours on a stream."""
        if self.ansi == "never" or os.environ.get("NO_COLOR"):
            return False
        return self.ansi == "always" or stream_is_tty

    def _directory(self) -> str:
        if self.project_directory:
            return os.path.abspath(self.project_directory)
        first = next((path for path in self.files if path != "-"), None)
        if first is None:
            return os.getcwd()
        from pycompose.compose.loader.remotes import is_remote

        return os.getcwd() if is_remote(first) else os.path.dirname(os.path.abspath(first))

    def _env_files(self) -> list[str]:
        named = self.env_files or tuple(one for one in os.environ.get("COMPOSE_ENV_FILES", "").split(",") if one)
        return [os.path.abspath(path) for path in named]


def settings() -> Settings:
    """Return the running command's settings."""
    found: Settings = click.get_current_context().ensure_object(Settings)
    return found


def scales(values: Sequence[str], flag: str = "--scale ") -> dict[str, int]:
    """Read `SERVICE=N` words; `flag` is what stands before them, for the message.

    Raises:
        UsageError: one is not of that form.
    """
    result = {}
    for value in values:
        name, equals, number = value.partition("=")
        if not equals or not number.isdigit():
            raise UsageError(f"{flag}{value}: want SERVICE=NUMBER, for example web=3")
        result[name] = int(number)
    return result


def need(found: bool, message: str) -> None:
    """Raise CliError with `message` unless `found`."""
    if not found:
        raise CliError(message)
