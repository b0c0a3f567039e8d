"""`completion SHELL`: a script that completes commands, flags, and names of services with TAB.

The script asks `pycompose __complete WORD...` for what may stand in place of the last word. Names of services come from
the Compose file alone; other objects' names from a node that runs (none is started). Nothing here ever fails loudly: a
TAB that finds nothing prints nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem, _resolve_context, _resolve_incomplete

from pycompose.compose.cli import program
from pycompose.compose.cli.flags import command
from pycompose.compose.cli.settings import Settings

FILES = ":files"
"""What is printed where the shell shall complete names of files."""
SERVICES = ("service", "services")
OBJECTS = {"container": "containers", "image": "images", "network": "networks", "volume": "volumes", "node": "nodes"}
NODE_SECONDS = 1.0
_FILE_WORDS = ("PATH", "FILE", "FILE|-")

BASH = """\
# pycompose completion bash: eval "$(PROGRAM completion bash)", or put it into /etc/bash_completion.d/PROGRAM
_pycompose_complete() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            compopt -o default
            return
        fi
        COMPREPLY+=("${line%%$'\\t'*}")
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _pycompose_complete PROGRAM
"""
ZSH = """\
#compdef PROGRAM
# pycompose completion zsh: eval "$(PROGRAM completion zsh)", or put it as _PROGRAM into a folder of $fpath
_pycompose_complete() {
    local -a lines values
    local line
    lines=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ $lines[1] == :files ]]; then
        _files
        return
    fi
    for line in $lines; do
        [[ -n $line ]] && values+=("${${line//:/\\\\:}/$'\\t'/:}")
    done
    _describe -V PROGRAM values
}
compdef _pycompose_complete PROGRAM
"""
FISH = """\
# pycompose completion fish: put it into ~/.config/fish/completions/PROGRAM.fish
function __pycompose_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines ($words[1] __complete $words[2..-1] 2>/dev/null)
    if test "$lines[1]" = ":files"
        __fish_complete_path (commandline -ct)
        return
    end
    string join -- \\n $lines
end
complete -c PROGRAM -f -a '(__pycompose_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@command("completion", dry=False)
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion(shell: str) -> None:
    """Print a script that completes commands, flags and names of services.

    \b
    eval "$(pycompose completion bash)"                                       in ~/.bashrc
    eval "$(pycompose completion zsh)"                                        in ~/.zshrc
    pycompose completion fish > ~/.config/fish/completions/pycompose.fish
    """
    print(SCRIPTS[shell].replace("PROGRAM", program.name()), end="")


def answer(words: Sequence[str]) -> list[str]:
    """Return the lines for a shell: candidates with their description after a tab, or FILES.

    Args:
        words: what was typed after the program's name, up to the cursor; the last one is incomplete.
    """
    from pycompose.compose.cli.main import cli

    typed = _joined(words) or [""]
    try:
        context = _resolve_context(cli, {}, program.name(), typed[:-1])
        what, incomplete = _resolve_incomplete(context, typed[:-1], typed[-1])
        return _lines(context, what, incomplete)
    except Exception:
        return []


def _joined(words: Sequence[str]) -> list[str]:
    """Return words with "--flag", "=", "value" put together again, as bash splits them."""
    found: list[str] = []
    for word in words:
        if found and (word == "=" or found[-1].endswith("=")) and found[-1].startswith("--"):
            found[-1] += word
        else:
            found.append(word)
    return found


def _lines(context: click.Context, what: Any, incomplete: str) -> list[str]:
    if isinstance(what, click.Argument) and what.name in SERVICES and not _group(context):
        return _starting(incomplete, services(_settings(context)))
    if isinstance(what, click.Parameter) and str(what.metavar or "") in _FILE_WORDS:
        return [FILES]
    if isinstance(what, click.Argument) and _group(context) in OBJECTS:
        return _starting(incomplete, _objects(_settings(context), OBJECTS[_group(context)]))
    if isinstance(what, click.Argument) and context.info_name == "cp":
        return [*_starting(incomplete, (f"{name}:" for name in services(_settings(context))))] or [FILES]
    if isinstance(what, click.Argument) and context.info_name == "help":
        from pycompose.compose.cli.help import subjects

        return _starting(incomplete, subjects())
    items: list[CompletionItem[Any]] = what.shell_complete(context, incomplete)
    if any(item.type in ("file", "dir") for item in items):
        return [FILES]
    return [f"{item.value}\t{item.help}" if item.help else str(item.value) for item in items]


def _group(context: click.Context) -> str:
    """Return "container" of `container stop`, "" of a command of projects."""
    parent = context.parent
    return str(parent.info_name) if parent is not None and parent.parent is not None else ""


def _starting(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _settings(context: click.Context) -> Settings:
    found = context.find_root().params
    return Settings(
        files=tuple(found.get("files") or ()),
        project_name=found.get("project_name"),
        project_directory=found.get("project_directory"),
        env_files=tuple(found.get("env_files") or ()),
        profiles=("*",),
        progress="quiet",
        host=found.get("host") or "",
        offline=True,
    )


def services(chosen: Settings) -> list[str]:
    """Return the names of the services of the Compose file, of all profiles; what is wrong with it is not told."""
    chosen.warned = _Everything()
    project = chosen.load(interpolate=False, check_consistency=False, resolve_environment=False)
    return sorted(project.services)


class _Everything(set[str]):
    """All warnings have been printed already."""

    def __contains__(self, text: object) -> bool:
        return True


def _objects(chosen: Settings, kind: str) -> list[str]:
    """Return names of objects of a node that runs."""
    from pycompose.proto.v1 import control_pb2, image_pb2

    with chosen.client(start=False) as client:
        if kind == "images":
            images = client.images.ListImages(image_pb2.ListImagesRequest(), timeout=NODE_SECONDS).images
            return sorted(name for image in images for name in image.references)
        if kind == "containers":
            tasks = client.control.ListTasks(control_pb2.ListTasksRequest(), timeout=NODE_SECONDS).tasks
            return sorted(task.name for task in tasks)
        if kind == "networks":
            networks = client.control.ListNetworks(control_pb2.ListNetworksRequest(), timeout=NODE_SECONDS).networks
            return sorted(network.spec.name for network in networks)
        if kind == "volumes":
            volumes = client.control.ListVolumes(control_pb2.ListVolumesRequest(), timeout=NODE_SECONDS).volumes
            return sorted(volume.spec.name for volume in volumes)
        nodes = client.control.ListNodes(control_pb2.ListNodesRequest(), timeout=NODE_SECONDS).nodes
        return sorted(node.description.hostname for node in nodes)


def main(words: Sequence[str]) -> None:
    """Print the answer to a shell."""
    sys.stdout.write("".join(f"{line}\n" for line in answer(words)))
