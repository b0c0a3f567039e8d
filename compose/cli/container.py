"""`container`: the group. Containers are named by id, unique prefix of an id, or name."""

from __future__ import annotations

import click

from pycompose.compose.cli.flags import LISTS
from pycompose.compose.cli.lazy import LazyGroup

_CLI = "pycompose.compose.cli."
TABLE = {
    "attach": (_CLI + "container_io:attach", "Join a container's own input and output"),
    "commit": (_CLI + "container_io:commit", "Make an image of a container's changes"),
    "cp": (_CLI + "container_io:cp", "Copy files between a container and this machine"),
    "create": (_CLI + "container_run:create", "Create a container of an image"),
    "diff": (_CLI + "container_io:diff", "List files that a container changed"),
    "exec": (_CLI + "container_io:exec_", "Run a command in a running container"),
    "export": (_CLI + "container_io:export", "Write a container's files as a tar archive"),
    "inspect": (_CLI + "container_shape:inspect_", "Print containers as JSON"),
    "kill": (_CLI + "container_life:kill", "Send a signal to containers"),
    "logs": (_CLI + "container_io:logs", "Print the output of a container"),
    "ls": (_CLI + "container_list:ls", "List containers"),
    "pause": (_CLI + "container_life:pause", "Freeze containers"),
    "port": (_CLI + "container_list:port", "Print the public addresses of a container's ports"),
    "prune": (_CLI + "container_life:prune", "Remove containers that ended and belong to no service"),
    "rename": (_CLI + "container_life:rename", "Rename a container (not there)"),
    "restart": (_CLI + "container_life:restart", "Restart containers"),
    "rm": (_CLI + "container_life:rm", "Remove containers"),
    "run": (_CLI + "container_run:run", "Run a command in a new container of an image"),
    "start": (_CLI + "container_life:start", "Start containers"),
    "stats": (_CLI + "container_list:stats", "Print what containers use"),
    "stop": (_CLI + "container_life:stop", "Stop containers"),
    "top": (_CLI + "container_list:top", "List the processes of a container"),
    "unpause": (_CLI + "container_life:unpause", "Thaw containers"),
    "update": (_CLI + "container_life:update", "Change the limits of a container (not there)"),
    "wait": (_CLI + "container_life:wait", "Wait until containers stop; print their exit status"),
}


@click.group("container", cls=LazyGroup, table=TABLE, aliases={**LISTS, "ps": "ls"})
def container() -> None:
    """Manage containers."""
