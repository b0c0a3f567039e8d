"""Entry of the `pycompose` command: global flags, the table of commands, and the end of every error.

Whatever goes wrong ends here as one message and an exit status: 1 failed, 2 wrong command line, 130 interrupted, and
for `run` and `exec` the child's own. An exception that nobody expected is written with its traceback to a file, which
the message names.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence

import click

from pycompose import __version__
from pycompose.compose.cli.errors import CliError, Exit
from pycompose.compose.cli.lazy import LazyGroup
from pycompose.compose.cli.settings import Settings

_CLI = "pycompose.compose.cli."
COMMANDS = {
    "config": (_CLI + "config:config", "Check the Compose file and print it as it is understood"),
    "cp": (_CLI + "copy:cp", "Copy files between a container and this machine"),
    "create": (_CLI + "up:create", "Create containers without starting them"),
    "down": (_CLI + "down:down", "Stop and remove containers and networks"),
    "events": (_CLI + "inspection:events", "Print what happens to containers, as it happens"),
    "exec": (_CLI + "execute:exec_", "Run a command in a running container"),
    "images": (_CLI + "inspection:images", "List the images that containers use"),
    "kill": (_CLI + "lifecycle:kill", "Send a signal to containers"),
    "logs": (_CLI + "logs:logs", "Print the output of containers"),
    "ls": (_CLI + "inspection:ls", "List projects"),
    "pause": (_CLI + "lifecycle:pause", "Freeze containers"),
    "plan": (_CLI + "up:plan_", "Print what up would do (exit status 3 when that is anything)"),
    "port": (_CLI + "inspection:port", "Print the public address of a container's port"),
    "ps": (_CLI + "ps:ps", "List containers"),
    "pull": (_CLI + "pull:pull", "Pull the images of services"),
    "restart": (_CLI + "lifecycle:restart", "Restart containers"),
    "rm": (_CLI + "lifecycle:rm", "Remove stopped containers"),
    "run": (_CLI + "run:run", "Run a one-off command of a service"),
    "scale": (_CLI + "up:scale", "Change how many containers services have"),
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
    "build": (_CLI + "absent:build", "Build images (not there yet)"),
    "push": (_CLI + "absent:push", "Push images (not there yet)"),
    "watch": (_CLI + "absent:watch", "Follow file changes (not there yet)"),
}
_VERSION = click.option("-v", "--version", is_flag=True, help="Print the version.")


@click.command(
    "pycompose",
    cls=LazyGroup,
    table=COMMANDS,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("-f", "--file", "files", multiple=True, metavar="PATH", help="Compose file; may be given several times.")
@click.option("-p", "--project-name", metavar="NAME", help="Project name.")
@click.option("--project-directory", "--workdir", metavar="PATH", help="Base of relative paths.")
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="Activate a profile.")
@click.option("--env-file", "env_files", multiple=True, metavar="PATH", help="File of variables in place of .env.")
@click.option("--ansi", type=click.Choice(["never", "always", "auto"]), default=None, help="When to print colours.")
@click.option("--progress", type=click.Choice(["auto", "tty", "plain", "json", "quiet"]), help="How to show progress.")
@click.option("--no-ansi", is_flag=True, hidden=True)
@click.option("--parallel", type=int, default=-1, help="Accepted as Docker Compose's; work is always parallel.")
@click.option("--compatibility", is_flag=True, hidden=True)
@click.option("--all-resources", is_flag=True, help="Also resources that no service uses.")
@click.option("--dry-run", is_flag=True, help="Print what would be done and change nothing (up, create, down).")
@click.option(
    "-H", "--host", default="", metavar="ADDRESS", help="Node to talk to, e.g. unix:///run/pycompose/api.sock."
)
@click.option("--verbose", "-D", "--debug", is_flag=True, hidden=True)
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
    parallel: int,
    compatibility: bool,
    all_resources: bool,
    dry_run: bool,
    host: str,
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
        print(f"pycompose version {__version__}")
        raise Exit(0)
    ctx.obj = Settings(
        files=files,
        project_name=project_name,
        project_directory=project_directory,
        profiles=profiles,
        env_files=env_files,
        ansi="never" if no_ansi else ansi or os.environ.get("COMPOSE_ANSI") or "auto",
        progress=_progress(progress or os.environ.get("COMPOSE_PROGRESS") or "auto"),
        all_resources=all_resources,
        dry_run=dry_run,
        host=host,
    )
    if compatibility:
        ctx.obj.warn("--compatibility has no effect: containers are named <project>-<service>-<number>")
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _progress(word: str) -> str:
    return {"none": "quiet"}.get(word, word)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; errors are printed on stderr."""
    try:
        cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False, prog_name="pycompose")
    except Exit as end:
        return end.status
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.Abort:
        print(file=sys.stderr)
        return 130
    except click.ClickException as error:
        print(_usage(error), file=sys.stderr)
        return 2
    except CliError as error:
        print(_prefixed(str(error)), file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output left (pycompose logs | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:
        return _other(error)
    return 0


def _usage(error: click.ClickException) -> str:
    text = _prefixed(error.format_message())
    context = getattr(error, "ctx", None)
    if context is not None and "--help" not in text and "did you mean" not in text:
        text += f"; see {context.command_path} --help"
    return text


def _prefixed(text: str) -> str:
    return text if text.startswith("error: ") else f"error: {text}"


def _other(error: Exception) -> int:
    from pycompose.compose.client.errors import ClientError
    from pycompose.compose.loader import LoadError

    if isinstance(error, (LoadError, ClientError)):
        print(_prefixed(str(error)), file=sys.stderr)
        return getattr(error, "status", 1)
    if isinstance(error, OSError) and error.filename:
        print(_prefixed(f"{error.filename}: {error.strerror}"), file=sys.stderr)
        return 1
    print(_prefixed(f"unexpected {type(error).__name__}: {error}; details in {_report(error)}"), file=sys.stderr)
    return 1


def _report(error: Exception) -> str:
    """Write the traceback to a file and return its path."""
    import traceback

    stamp = time.strftime("%Y%m%d-%H%M%S")
    with tempfile.NamedTemporaryFile("w", prefix=f"pycompose-error-{stamp}-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
        return file.name


def main() -> None:
    """Run the command line of this process."""
    status = run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)


if __name__ == "__main__":
    main()
