"""Entry of the `pycompose` command: global flags and the table of commands. How it ends is told in `endings.py`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

import click

from pycompose.compose.cli.endings import ended, leave, open_streams
from pycompose.compose.cli.errors import Exit, UsageError
from pycompose.compose.cli.lazy import LazyGroup
from pycompose.compose.cli.program import banner, name, standalone
from pycompose.compose.cli.settings import Settings

_CLI = "pycompose.compose.cli."
COMMANDS = {
    "completion": (_CLI + "completion:completion", "Print a script that completes with TAB in bash, zsh or fish"),
    "help": (_CLI + "help:help_", "Explain a command or a topic"),
    "config": (_CLI + "config:config", "Check the Compose file and print it as it is understood"),
    "attach": (_CLI + "attach:attach", "Join a container's own input and output"),
    "bridge": (_CLI + "absent:bridge", "Convert Compose files into other models (not there)"),
    "commit": (_CLI + "commit:commit", "Make an image of a container's changes"),
    "cluster": (_CLI + "cluster:cluster", "Manage the cluster"),
    "configs": (_CLI + "secrets:configs", "Manage configs of the cluster"),
    "context": (_CLI + "context:context", "Choose the cluster that commands talk to"),
    "cp": (_CLI + "copy:cp", "Copy files between a container and this machine"),
    "create": (_CLI + "up:create", "Create containers without starting them"),
    "down": (_CLI + "down:down", "Stop and remove containers and networks"),
    "events": (_CLI + "events:events", "Print what happens to containers, as it happens"),
    "exec": (_CLI + "execute:exec_", "Run a command in a running container"),
    "export": (_CLI + "commit:export", "Write a container's files as a tar archive"),
    "images": (_CLI + "inspection:images", "List the images that containers use"),
    "kill": (_CLI + "lifecycle:kill", "Send a signal to containers"),
    "login": (_CLI + "login:login", "Log in at a registry"),
    "logout": (_CLI + "login:logout", "Forget the account of a registry"),
    "logs": (_CLI + "logs:logs", "Print the output of containers"),
    "ls": (_CLI + "inspection:ls", "List projects"),
    "pause": (_CLI + "lifecycle:pause", "Freeze containers"),
    "plan": (_CLI + "planning:plan_", "Print what up would do (exit status 3 when that is anything)"),
    "port": (_CLI + "inspection:port", "Print the public address of a container's port"),
    "port-forward": (_CLI + "forwarding:port_forward", "Forward ports of this machine to a container"),
    "ps": (_CLI + "ps:ps", "List containers"),
    "publish": (_CLI + "publish:publish", "Publish the project at a registry"),
    "pull": (_CLI + "pull:pull", "Pull the images of services"),
    "push": (_CLI + "pull:push", "Push the images of services that are built"),
    "restart": (_CLI + "lifecycle:restart", "Restart containers"),
    "rm": (_CLI + "lifecycle:rm", "Remove stopped containers"),
    "run": (_CLI + "run:run", "Run a one-off command of a service"),
    "scale": (_CLI + "up:scale", "Change how many containers services have"),
    "secrets": (_CLI + "secrets:secrets", "Manage secrets of the cluster"),
    "start": (_CLI + "lifecycle:start", "Start containers"),
    "stats": (_CLI + "inspection:stats", "Print what containers use"),
    "stop": (_CLI + "lifecycle:stop", "Stop containers"),
    "top": (_CLI + "inspection:top", "List the processes of containers"),
    "unpause": (_CLI + "lifecycle:unpause", "Thaw containers"),
    "up": (_CLI + "up:up", "Create and start containers"),
    "version": (_CLI + "version:version", "Print the version"),
    "volumes": (_CLI + "inspection:volumes", "List volumes of the project"),
    "wait": (_CLI + "lifecycle:wait", "Wait until containers stop; print their exit status"),
    "container": (_CLI + "container:container", "Manage containers"),
    "image": (_CLI + "image:image", "Manage images"),
    "network": (_CLI + "network:network", "Manage networks"),
    "volume": (_CLI + "volume:volume", "Manage volumes"),
    "service": (_CLI + "service:service", "Manage services"),
    "node": (_CLI + "node:node", "Manage this machine's node, and list nodes"),
    "build": (_CLI + "build:build", "Build the images of services"),
    "builder": (_CLI + "builder:builder", "Manage what the node keeps of builds"),
    "watch": (_CLI + "watch:watch", "Bring changed files into containers as they change"),
}
HIDDEN = {"alpha": (_CLI + "viz:alpha", "Experimental commands")}
ANSI = ("never", "always", "auto")
PROGRESS = ("auto", "tty", "plain", "json", "quiet")
_VERSION = click.option("-v", "--version", is_flag=True, help="Print the version.")


@click.command(
    "pycompose",
    cls=LazyGroup,
    table=COMMANDS,
    hidden_table=HIDDEN,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("-f", "--file", "files", multiple=True, metavar="PATH", help="Compose file; may be given several times.")
@click.option("-p", "--project-name", metavar="NAME", help="Project name.")
@click.option("--project-directory", "--workdir", metavar="PATH", help="Base of relative paths.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Activate a profile.")
@click.option("--env-file", "env_files", multiple=True, metavar="PATH", help="File of variables in place of .env.")
@click.option("--ansi", type=click.Choice(ANSI), help="When to print colours (default auto).")
@click.option("--progress", type=click.Choice(PROGRESS), help="How to show progress (default auto).")
@click.option("--no-ansi", is_flag=True, hidden=True)
@click.option("--parallel", type=int, help="Images pulled at a time; -1: no limit (default -1).")
@click.option("--compatibility", is_flag=True, help="Name containers with _ as Docker Compose 1 did.")
@click.option("--all-resources", is_flag=True, help="Also resources that no service uses.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and change nothing.")
@click.option(
    "-H", "--host", default="", metavar="ADDRESS", help="Node to talk to: ssh://USER@HOST or unix:///PATH/api.sock."
)
@click.option("-c", "--context", default="", metavar="NAME", help="Cluster to talk to (pycompose context ls).")
@click.option(
    "--trust-remote", is_flag=True, help="Let remote files name any file of this machine (PYCOMPOSE_TRUST_REMOTE)."
)
@click.option("--verbose", "-D", "--debug", is_flag=True, hidden=True)
@standalone
@_VERSION
@click.pass_context
def cli(
    ctx: click.Context,
    files: tuple[str, ...],
    project_name: str | None,
    project_directory: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    ansi: str | None,
    progress: str | None,
    no_ansi: bool,
    parallel: int | None,
    compatibility: bool,
    all_resources: bool,
    dry_run: bool,
    host: str,
    context: str,
    trust_remote: bool,
    verbose: bool,
    version: bool,
) -> None:
    """Run a Compose file's application on this machine.

    \b
    pycompose up -d            start everything in the background
    pycompose ps               see what runs
    pycompose logs -f web      follow a service's output
    pycompose exec web sh      a shell in a container
    pycompose down             stop and remove everything
    """
    if version:
        print(banner())
        raise Exit(0)
    ctx.obj = chosen = Settings(
        files=files,
        project_name=project_name,
        project_directory=project_directory,
        profiles=profiles,
        env_files=env_files,
        all_resources=all_resources,
        dry_run=dry_run,
        host=host,
        context=context,
        trust_remote=trust_remote,
    )
    chosen.ansi = "never" if no_ansi else _choice("--ansi", ansi or chosen.variable("COMPOSE_ANSI"), ANSI)
    chosen.progress = _choice("--progress", progress or chosen.variable("COMPOSE_PROGRESS"), (*PROGRESS, "none"))
    chosen.progress = "quiet" if chosen.progress == "none" else chosen.progress
    chosen.parallel = _limit(parallel, chosen.variable("COMPOSE_PARALLEL_LIMIT"))
    chosen.compatibility = compatibility or chosen.truth("COMPOSE_COMPATIBILITY")
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _choice(flag: str, word: str, known: Sequence[str]) -> str:
    """Return a word of the command line or the environment, "auto" for none.

    Raises:
        UsageError: it is not known.
    """
    if word and word not in known:
        raise UsageError(f"{flag} {word}: want one of {', '.join(known)}")
    return word or "auto"


def _limit(given: int | None, variable: str) -> int:
    """Return how much may be done at a time; -1: no limit.

    Raises:
        UsageError: the environment names no number.
    """
    if given is not None or not variable:
        return -1 if given is None else given
    try:
        return int(variable)
    except ValueError:
        raise UsageError(f"COMPOSE_PARALLEL_LIMIT={variable}: want a number, -1 for no limit") from None


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; errors are printed on stderr."""
    args = list(arguments) if arguments is not None else sys.argv[1:]
    if args[:1] == ["__complete"]:
        from pycompose.compose.cli import completion

        return ended(lambda: completion.main(args[1:]))
    return ended(lambda: cli.main(args=args, standalone_mode=False, prog_name=name()))


def main() -> None:
    """Run the command line of this process."""
    gc.set_threshold(50_000)  # a command keeps most of what it makes to its end: looking for rubbish is a tenth of it
    open_streams()
    leave(run())


if __name__ == "__main__":
    main()
