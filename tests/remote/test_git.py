"""Projects in git repositories: real git, real servers on loopback, the whole command line, and what goes wrong."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.peer import Outcome, binary, outcome, run_ours, start_peer
from remote.serving import Site, git, serving

from pycompose.compose.loader import RemoteError
from pycompose.compose.remote.artifacts import Registry
from pycompose.compose.remote.cache import Cache
from pycompose.compose.remote.fetch import Remotes
from pycompose.compose.remote.git import Git

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

APP = {
    "compose.yaml": """
include: [deploy/more.yaml]
services:
  web:
    image: web:${TAG:-1}
    volumes: [./data:/d]
    env_file: [web.env]
    environment: {FROM: "${FROM:-none}"}
  ext: {extends: {file: base.yaml, service: base}}
""",
    "web.env": "X=1\n",
    ".env": "FROM=the repository\n",
    "base.yaml": "services: {base: {image: base, volumes: [./b:/b]}}\n",
    "deploy/more.yaml": "services: {more: {image: more, volumes: [./m:/m, ../up:/u], build: {context: ..}}}\n",
}
WEB = "services: {web: {image: web}}\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server of repositories."""
    with serving(tmp_path / "site") as found:
        yield found


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder where commands run."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def variables(here: Path, **more: str) -> dict[str, str]:
    """The environment of a command."""
    return {"PATH": os.environ["PATH"], "HOME": str(here), "XDG_CACHE_HOME": str(here / "cache"), **more}


def ours(here: Path, *words: str, **more: str) -> Outcome:
    """Run pycompose."""
    return run_ours(words, str(here), variables(here, **more))


def config(here: Path, *words: str, **more: str) -> dict[str, dict[str, object]]:
    """Return the services that `config` prints; it must succeed."""
    done = ours(here, *words, "config", "--format", "json", **more)
    assert done.status == 0, done.err
    services: dict[str, dict[str, object]] = json.loads(done.out)["services"]
    return services


def left(here: Path) -> list[str]:
    """What lies in the cache, but for the names."""
    found = here / "cache" / "pycompose" / "remote"
    return sorted(path.name for path in found.iterdir() if path.name != "names") if found.exists() else []


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_docker_compose_prints_the_same(site: Site, here: Path, form: str) -> None:
    if binary() is None:
        pytest.skip("Docker Compose's binary is not installed")
    site.commit("app", APP)
    (here / "compose.yaml").write_text(
        f"""
include: ["{site.url}/app.git#main:deploy/more.yaml"]
services:
  own: {{image: own, volumes: ["./x:/x"]}}
  ext: {{extends: {{file: "{site.url}/app.git#main:base.yaml", service: base}}}}
"""
    )
    for words in (
        ["-f", f"{site.url}/app.git"],
        ["-f", f"{site.url}/app.git#main"],
        ["-f", f"{site.url}/app.git#main:deploy/more.yaml", "--project-directory", "/tmp"],
        ["-f", f"{site.url}/app.git?branch=main&subdir=deploy/more.yaml", "-p", "named"],
        [],
    ):
        command = [*words, "config", "--format", form]
        theirs = outcome(start_peer(command, str(here), variables(here, FROM="here")))
        assert theirs.status == 0, theirs.err
        done = ours(here, *command, FROM="here")
        assert done.status == 0, done.err
        commit = git(site.folder / "work" / "app", "rev-parse", "HEAD")
        expected = theirs.out.replace(f"docker-compose/{commit}", f"pycompose/remote/{commit}/files")
        assert done.out == expected


def test_a_ref_that_moves(site: Site, here: Path) -> None:
    first = site.commit("app", {"compose.yaml": WEB})
    site.tag("app", "v1")
    url = f"{site.url}/app.git"
    assert config(here, "-f", url)["web"]["image"] == "web"
    second = site.commit("app", {"compose.yaml": WEB.replace("image: web", "image: new")})
    assert config(here, "-f", url)["web"]["image"] == "new"
    assert config(here, "-f", f"{url}#v1")["web"]["image"] == "web"
    assert config(here, "-f", f"{url}#{first}")["web"]["image"] == "web"
    assert config(here, "-f", f"{url}?checksum={first[:12]}#v1")["web"]["image"] == "web"
    moved = ours(here, "-f", f"{url}?checksum={first}#main", "config")
    assert moved.status == 1
    assert f"it is {second} now; the commit that the reference asks for is another" in moved.err
    assert left(here) == sorted([first, second])


def test_one_command_asks_once_and_a_commit_never(site: Site, here: Path) -> None:
    commit = site.commit("app", {"compose.yaml": WEB, "b.yaml": "services: {b: {image: b}}"})
    url = f"{site.url}/app.git#{commit}"
    (here / "compose.yaml").write_text(f"include: ['{url}', '{url}']")
    config(here)
    site.requests.clear()
    config(here)
    config(here, "-f", url)
    assert site.requests == []


def test_offline(site: Site, here: Path) -> None:
    site.commit("app", {"compose.yaml": WEB})
    url = f"{site.url}/app.git#main"
    config(here, "-f", url)
    port = site.port
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"http://127.0.0.1:{closed.getsockname()[1]}"
    # the same name, and nobody there: a proxy that does not answer
    done = ours(here, "-f", url, "config", http_proxy=gone)
    assert done.status == 0, done.err
    assert f"warning: {url}: unable to access" in done.err
    assert "it is taken as it was fetched on" in done.err
    refused = ours(here, "-f", f"http://127.0.0.1:{port}/app.git#other", "config", http_proxy=gone)
    assert refused.status == 1
    assert "unable to access" in refused.err


def test_what_the_server_does_not_have(site: Site, here: Path) -> None:
    site.commit("app", {"sub/other.yaml": WEB})
    url = f"{site.url}/app.git"
    for reference, words in {
        f"{site.url}/none.git": "none.git: repository",
        f"{url}#none": "the repository has no 'none'; name a branch, a tag, or a whole commit",
        f"{url}#1234567": "write a commit in full",
        f"{url}#{'12' * 20}": "",
        url: "it has no compose.yaml or compose.yml or docker-compose.yml or docker-compose.yaml in its top folder",
        f"{url}#main:sub": "in sub; name the file or its folder",
        f"{url}#main:gone/x.yaml": "it has no gone/x.yaml",
    }.items():
        done = ours(here, "-f", reference, "config")
        assert done.status == 1, reference
        assert words in done.err
        assert "Traceback" not in done.err
        assert reference in done.err
    assert len(left(here)) <= 1  # the commit of main itself, and nothing begun


def test_a_server_of_files_alone(site: Site, here: Path) -> None:
    """The dumb protocol can give no single commit, and git fetches all of it."""
    first = site.commit("app", {"compose.yaml": WEB})
    site.commit("app", {"compose.yaml": WEB.replace("web:", "more:")})
    site.dumb = True
    assert list(config(here, "-f", f"{site.url}/app.git")) == ["more"]
    assert list(config(here, "-f", f"{site.url}/app.git#{first}")) == ["web"]


def test_an_old_server(site: Site, here: Path) -> None:
    """It gives no commit that is not the newest of a branch, and git fetches all of it."""
    first = site.commit("app", {"compose.yaml": WEB})
    site.commit("app", {"compose.yaml": WEB.replace("web:", "more:")})
    site.old = True
    assert list(config(here, "-f", f"{site.url}/app.git")) == ["more"]
    assert list(config(here, "-f", f"{site.url}/app.git#{first}")) == ["web"]


def test_a_repository_with_the_longer_hashes(site: Site, here: Path) -> None:
    site.form = "sha256"
    commit = site.commit("app", {"compose.yaml": WEB})
    assert len(commit) == 64
    for reference in ("", "#main", f"#{commit}"):
        assert list(config(here, "-f", f"{site.url}/app.git{reference}")) == ["web"]


def test_completion_asks_nobody(site: Site, here: Path) -> None:
    site.commit("app", {"compose.yaml": WEB})
    url = f"{site.url}/app.git"
    assert "web" not in ours(here, "__complete", "-f", url, "logs", "").out
    assert site.requests == []
    config(here, "-f", url)
    site.requests.clear()
    assert "web" in ours(here, "__complete", "-f", url, "logs", "").out
    assert site.requests == []


def test_an_answer_that_is_cut(site: Site, here: Path) -> None:
    site.commit("app", {"compose.yaml": WEB})
    site.broken = True
    done = ours(here, "-f", f"{site.url}/app.git", "config")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert left(here) == []


def test_a_broken_repository(site: Site, here: Path) -> None:
    commit = site.commit("app", {"compose.yaml": WEB, "large.txt": "x" * 10_000})
    objects = site.folder / "srv" / "app.git" / "objects"
    for path in objects.rglob("*"):
        if path.is_file() and len(path.parent.name) == 2:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:-5] + b"wrong")
    site.dumb = True
    done = ours(here, "-f", f"{site.url}/app.git#{commit}", "config")
    assert done.status == 1
    assert "Traceback" not in done.err
    assert left(here) == []


def no_registry() -> Registry:
    """There is none here."""
    raise AssertionError("no registry is needed for git")


def remotes(here: Path, **limits: float) -> Remotes:
    """Return what fetches, with limits of the test's."""
    most = Git(variables(here), **limits)  # type: ignore[arg-type]
    return Remotes(Cache(here / "cache" / "pycompose" / "remote"), most, no_registry, {}, print)


def test_a_repository_that_is_too_large(site: Site, here: Path) -> None:
    site.commit("app", {"compose.yaml": WEB, **{f"f{n}": "x" * 1000 for n in range(50)}})
    for limits, words in (
        ({"most_files": 20}, "51 files are too many; the most is 20"),
        ({"most_bytes": 20_000}, "its files have 0 MB; the most is 0 MB"),
    ):
        with pytest.raises(RemoteError, match=words):
            remotes(here, **limits).fetch(f"{site.url}/app.git")
    assert left(here) == []
    # what does not shrink is stopped while it comes
    (site.folder / "work" / "app" / "noise").write_bytes(os.urandom(4_000_000))
    site.commit("app", {})
    with pytest.raises(RemoteError, match=r"the most is 1 MB|more than 1 MB were fetched"):
        remotes(here, most_bytes=1 << 20).fetch(f"{site.url}/app.git")
    assert left(here) == []


def test_a_server_that_never_answers(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(RemoteError, match="git took more than 1 s"):
            remotes(here, seconds=1).fetch(f"http://127.0.0.1:{port}/app.git")
    assert left(here) == []


def test_no_hook_filter_or_submodule_runs(site: Site, here: Path) -> None:
    """Also where the caller's own configuration would run one."""
    site.commit("sub", {"inner.yaml": WEB})
    site.commit(
        "app",
        {
            "compose.yaml": WEB,
            ".gitattributes": "*.txt filter=evil\n",
            "a.txt": "text",
            ".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = {site.url}/sub.git\n',
        },
    )
    mark = here / "mark"
    hooks, template = here / "hooks", here / "template" / "hooks"
    for folder in (hooks, template):
        folder.mkdir(parents=True)
        (folder / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
        (folder / "post-checkout").chmod(0o755)
    (here / ".gitconfig").write_text(
        f'[core]\n\thooksPath = {hooks}\n\tfsmonitor = "touch {mark}"\n[init]\n\ttemplateDir = {template.parent}\n'
        f'[filter "evil"]\n\tsmudge = "touch {mark}"\n\trequired = true\n[submodule]\n\trecurse = true\n'
    )
    config(here, "-f", f"{site.url}/app.git")
    assert not mark.exists()
    assert not any("sub.git" in path for path in site.requests)
    assert not list((here / "cache").rglob(".git"))


def test_local_transports_need_to_be_told(site: Site, here: Path) -> None:
    site.commit("app", {"compose.yaml": WEB})
    # the caller's own configuration turns the URL into a folder, or into a program
    for target in (site.folder / "srv/", f"ext::sh -c touch%% {here}/mark "):
        (here / ".gitconfig").write_text(f'[url "{target}"]\n\tinsteadOf = https://h.example/\n')
        done = ours(here, "-f", "https://h.example/app.git", "config")
        assert done.status == 1
        assert "allowed are https, http, ssh, git; GIT_ALLOW_PROTOCOL says otherwise" in done.err
    assert not (here / "mark").exists()
    (here / ".gitconfig").write_text(f'[url "{site.folder}/srv/"]\n\tinsteadOf = https://h.example/\n')
    told = ours(here, "-f", "https://h.example/app.git", "config", GIT_ALLOW_PROTOCOL="file")
    assert told.status == 0, told.err


def test_links_that_lead_out(site: Site, here: Path) -> None:
    (here / "secret").write_text("KEY=secret\n")
    links = {"out": str(here), "compose.yml": str(here / "compose.yaml"), "in": "sub"}
    (here / "compose.yaml").write_text(WEB)
    files = {
        "sub/compose.yaml": "services: {web: {image: x, env_file: ../out/secret}}",
        "sub/bind.yaml": "services: {web: {image: x, volumes: ['../out:/o']}}",
        "sub/fine.yaml": "services: {web: {image: x, volumes: ['../in:/o']}}",
        "sub/include.yaml": "include: [../out/compose.yaml]",
        "env/compose.yaml": WEB,
    }
    site.commit("app", files, {**links, "env/.env": str(here / "secret")})
    url = f"{site.url}/app.git"
    for reference, words in {
        f"{url}#main:sub": "services.web.env_file[0]: ",
        f"{url}#main:sub/bind.yaml": "services.web.volumes[0]: ",
        f"{url}#main:sub/include.yaml": "include[0]: ",
        f"{url}#main:compose.yml": "is a symbolic link that leads out of it",
        f"{url}#main:out/compose.yaml": "is a symbolic link that leads out of it",
        url: "is a symbolic link that leads out of it",
    }.items():
        done = ours(here, "-f", reference, "config")
        assert done.status == 1, reference
        assert words in done.err
        assert "out of" in done.err
        assert "KEY=secret" not in done.err
    config(here, "-f", f"{url}#main:sub/fine.yaml")
    (here / "local").mkdir()
    (here / "local" / "compose.yaml").write_text(f"include: ['{url}#main:env']")
    done = ours(here, "--project-directory", str(here / "local"), "-f", "local/compose.yaml", "config")
    assert done.status == 1
    assert "leads through a symbolic link out of" in done.err


def test_trust_is_said_on_the_command_line_or_in_the_environment(site: Site, here: Path) -> None:
    site.commit("app", {"compose.yaml": "services: {web: {image: x, volumes: ['/etc:/e:ro']}}"})
    url = f"{site.url}/app.git"
    assert ours(here, "-f", url, "config").status == 1
    assert ours(here, "--trust-remote", "-f", url, "config").status == 0
    assert ours(here, "-f", url, "config", PYCOMPOSE_TRUST_REMOTE="1").status == 0
    (here / ".env").write_text("PYCOMPOSE_TRUST_REMOTE=true\n")
    assert ours(here, "-f", url, "config").status == 0


def test_a_file_that_a_container_changed_is_not_taken(site: Site, here: Path) -> None:
    commit = site.commit("app", APP)
    url = f"{site.url}/app.git"
    config(here, "-f", url)
    files = here / "cache" / "pycompose" / "remote" / commit / "files"
    for name in ("compose.yaml", "web.env", "base.yaml", "deploy/more.yaml"):
        before = (files / name).read_text()
        (files / name).write_text(before + "# changed\n")
        done = ours(here, "-f", url, "config")
        assert done.status == 1
        assert f"is not what was fetched any more; to fetch it anew: rm -r {files.parent}" in done.err
        (files / name).write_text(before)
    # data beside them may change: nobody but the containers reads it
    (files / "data").mkdir()
    (files / "data" / "x").write_text("data")
    config(here, "-f", url)


def test_switches_of_docker_compose(site: Site, here: Path) -> None:
    site.commit("app", {"compose.yaml": WEB})
    url = f"{site.url}/app.git"
    off = ours(here, "-f", url, "config", COMPOSE_EXPERIMENTAL_GIT_REMOTE="false")
    assert off.status == 1
    assert "turned off by COMPOSE_EXPERIMENTAL_GIT_REMOTE=false" in off.err
    wrong = ours(here, "-f", url, "config", COMPOSE_EXPERIMENTAL_GIT_REMOTE="maybe")
    assert "COMPOSE_EXPERIMENTAL_GIT_REMOTE=maybe: want true or false" in wrong.err
    assert ours(here, "-f", url, "config", COMPOSE_EXPERIMENTAL_GIT_REMOTE="1").status == 0
    assert ours(here, "config", COMPOSE_FILE=url).status == 0
    missing = ours(here, "-f", url.replace("app", "x"), "config", PATH="/nowhere")
    assert "git is not installed; install it" in missing.err


def test_nothing_of_it_is_imported_for_local_files(here: Path) -> None:
    (here / "compose.yaml").write_text(WEB)
    program = (
        "import sys; from pycompose.compose.cli.main import run; run(['config', '-q']); "
        "sys.exit(' '.join(m for m in sys.modules if 'compose.remote' in m or m in ('urllib.request', 'grpc')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=here, capture_output=True, text=True)
    assert done.stderr.strip() == ""
