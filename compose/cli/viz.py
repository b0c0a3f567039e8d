"""`alpha viz`: the services and what they depend on, in the language of Graphviz."""

from __future__ import annotations

from html import escape
from typing import Any

import click

from pycompose.compose.cli.flags import group
from pycompose.compose.cli.publish import publish
from pycompose.compose.cli.settings import settings
from pycompose.compose.loader import Project


@group(hidden=True)
def alpha() -> None:
    """Experimental commands of Docker Compose."""


@alpha.command("viz")
@click.option("--image", is_flag=True, help="Also images.")
@click.option("--networks", is_flag=True, help="Also networks.")
@click.option("--ports", is_flag=True, help="Also ports.")
@click.option("--indentation-size", type=int, default=1, metavar="N", help="Tabs or spaces of a level.")
@click.option("--spaces", is_flag=True, help="Indent with spaces.")
def viz(image: bool, networks: bool, ports: bool, indentation_size: int, spaces: bool) -> None:
    """Print the project as a graph (dot)."""
    indent = (" " if spaces else "\t") * indentation_size
    print(graph(settings().load(), indent, image=image, networks=networks, ports=ports))


def graph(project: Project, indent: str, *, image: bool, networks: bool, ports: bool) -> str:
    """Return the project in the dot language, with labels as Docker Compose writes them."""
    lines = [f'digraph "{project.name}" {{', f"{indent}layout=dot;"]
    for name, service in project.services.items():
        parts = [f'<font point-size="15">{escape(name)}</font>']
        if networks and service.get("networks"):
            parts.append(_part("Networks", sorted(service["networks"])))
        if ports and service.get("ports"):
            parts.append(_part("Ports", [_port(port) for port in service["ports"]]))
        if image:
            parts.append(_part("Image", [service.get("image") or ""]))
        lines.append(f'{indent}"{name}" [style="filled" label=<{"".join(parts)}>];')
    lines.append("")
    for name, service in project.services.items():
        lines += [f'{indent}"{name}" -> "{other}";' for other in service.get("depends_on") or ()]
    return "\n".join([*lines, "}", ""])


def _part(title: str, values: list[str]) -> str:
    text = "".join(f"<br/>{escape(value)}" for value in values)
    return f'<font point-size="10"><br/><br/><b>{title}:</b>{text}</font>'


def _port(port: dict[str, Any]) -> str:
    host = f"{port['host_ip']}:" if port.get("host_ip") else ""
    published = f"{port['published']}:" if port.get("published") else ""
    return f"{host}{published}{port['target']} ({port.get('protocol', 'tcp')}, {port.get('mode', 'ingress')})"


alpha.add_command(publish)
