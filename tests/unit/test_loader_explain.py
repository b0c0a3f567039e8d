"""`config --explain`: the reports that users of Docker Compose filed, answered by the tool itself."""

from __future__ import annotations

import textwrap
from typing import Any

from pycompose.compose.loader import MemoryFiles, explain, load


def explained(files: dict[str, str], *names: str, **options: Any) -> str:
    memory = MemoryFiles({f"/p/{name}": textwrap.dedent(text) for name, text in files.items()})
    paths = [f"/p/{name}" for name in names or ("compose.yaml",)]
    return explain(load(paths, files=memory, **options), "/p")


def test_env_file_that_refers_to_an_earlier_one() -> None:
    """docker/compose#12793: .env wins over an earlier env_file, and over the line above."""
    files = {
        ".env": "SERVER_NAME=localhost\n",
        ".local.env": "SERVER_NAME=my-server.local\n",
        ".docker.env": "SERVER_NAME=${SERVER_NAME}\n",
        "compose.yaml": "services: {box: {image: busybox, env_file: [.env, .local.env, .docker.env]}}\n",
    }
    assert explained(files) == textwrap.dedent("""\
        services.box.environment.SERVER_NAME: localhost
            .docker.env:1: SERVER_NAME=localhost
                SERVER_NAME=localhost from .env:1
                    over SERVER_NAME=my-server.local from .local.env:1
                    over SERVER_NAME=localhost from .env:1
            over SERVER_NAME=my-server.local from .local.env:1
            over SERVER_NAME=localhost from .env:1
        """)


def test_a_later_env_file_of_the_command_line_wins() -> None:
    """docker/compose#12901."""
    files = {
        "local.env": 'NAME=localhost\nURL="http://${NAME}"\n',
        "dev.env": 'NAME=dev.example\nURL="http://${NAME}"\n',
        "compose.yaml": "services: {web: {image: x, environment: {URL: '${URL}'}}}\n",
    }
    assert explained(files, env_files=["/p/local.env", "/p/dev.env"]) == textwrap.dedent("""\
        services.web.environment.URL: http://dev.example
            compose.yaml:1:42: ${URL}
                URL=http://dev.example from dev.env:2
                    NAME=dev.example from dev.env:1
                        over NAME=localhost from local.env:1
                    over URL=http://localhost from local.env:2
        """)


def test_an_override_adds_an_env_file() -> None:
    """docker/compose#12655: what a later file defines is what its next line sees."""
    files = {
        "local": 'DB_USER=me\nPOSTGRES_USER="${DB_USER}"\n',
        "staging": 'DB_USER=other\nPOSTGRES_USER="${DB_USER}"\n',
        "a.yaml": "services: {db: {image: x, env_file: [local]}}\n",
        "b.yaml": "services: {db: {env_file: [staging]}}\n",
    }
    assert explained(files, "a.yaml", "b.yaml") == textwrap.dedent("""\
        services.db.environment.DB_USER: other
            staging:1: DB_USER=other
            over DB_USER=me from local:1
        services.db.environment.POSTGRES_USER: other
            staging:2: POSTGRES_USER=other
                DB_USER=other from staging:1
                    over DB_USER=me from local:1
            over POSTGRES_USER=me from local:2
                DB_USER=me from local:1
        """)


def test_the_shell_wins_inside_dotenv_too() -> None:
    """docker/compose#9442."""
    files = {
        ".env": "VERSION=from_dot_env\nIMAGE=foo:${VERSION}\n",
        "compose.yaml": "services: {echo: {image: '${IMAGE}', environment: [VERSION]}}\n",
    }
    assert explained(files, environment={"VERSION": "from_shell"}) == textwrap.dedent("""\
        services.echo.environment.VERSION: from_shell
            compose.yaml:1:52: VERSION
                VERSION=from_shell from the shell
                    over VERSION=from_dot_env from .env:1
        services.echo.image: foo:from_shell
            compose.yaml:1:19: ${IMAGE}
                IMAGE=foo:from_shell from .env:2
                    VERSION=from_shell from the shell
                        over VERSION=from_dot_env from .env:1
        """)


def test_what_files_over_others_replace() -> None:
    files = {
        "a.yaml": """\
            services:
              web:
                image: nginx:${TAG:-1}
                command: [a]
                labels: {l: one, k: two}
                ports: ["80:80"]
            """,
        "b.yaml": """\
            services:
              web:
                image: nginx:2
                command: [b]
                labels: [l=three]
                ports: !override ["81:80"]
            """,
    }
    assert explained(files, "a.yaml", "b.yaml") == textwrap.dedent("""\
        services.web.command: ["b"]
            b.yaml:4:5: ["b"]
            over a.yaml:4:5: ["a"]
        services.web.image: nginx:2
            b.yaml:3:5: nginx:2
            over a.yaml:3:5: nginx:1
        services.web.labels.l: three
            b.yaml:5:14: three
            over a.yaml:5:14: l=one
        services.web.ports: [{"mode":"ingress","target":80,"published":"81","protocol":"tcp"}]
            b.yaml:6:5: [{"mode":"ingress","target":80,"published":"81","protocol":"tcp"}]
            over a.yaml:6:5: [{"mode":"ingress","target":80,"published":"80","protocol":"tcp"}]
        """)


def test_nothing_to_explain() -> None:
    told = explained({"compose.yaml": "services: {web: {image: x}}\n"})
    assert told == "every value is as its file has it: nothing was replaced, merged or filled in\n"


def test_the_projects_name() -> None:
    text = "services: {web: {image: '${COMPOSE_PROJECT_NAME}'}}\n"
    assert "COMPOSE_PROJECT_NAME=p from the project's name" in explained({"compose.yaml": text})
