"""Names of remote files: what each form means, and what is refused."""

from __future__ import annotations

import pytest

from pycompose.compose.loader import LoadError, MemoryFiles, RemoteError, discover_files, is_remote
from pycompose.compose.remote.git import candidates, chosen, environment_for
from pycompose.compose.remote.references import ArtifactReference, GitReference, parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"

GIT = [
    ("https://h.example/a/b.git", "https://h.example/a/b.git", "", "", ""),
    ("https://h.example/a/b.git#main", "https://h.example/a/b.git", "main", "", ""),
    ("https://h.example/a/b.git#main:deploy/prod", "https://h.example/a/b.git", "main", "deploy/prod", ""),
    ("https://h.example/a/b.git#:deploy", "https://h.example/a/b.git", "", "deploy", ""),
    ("https://h.example/a/b.git#feature/x:f.yaml", "https://h.example/a/b.git", "feature/x", "f.yaml", ""),
    ("https://h.example/b.git#main:./a/../c/", "https://h.example/b.git", "main", "c", ""),
    ("https://me@h.example:8443/b.git", "https://me@h.example:8443/b.git", "", "", ""),
    ("http://127.0.0.1:80/b.git", "http://127.0.0.1:80/b.git", "", "", ""),
    ("git://h.example/b", "git://h.example/b", "", "", ""),
    ("ssh://git@h.example:22/~/b", "ssh://git@h.example:22/~/b", "", "", ""),
    ("git@h.example:a/b.git", "git@h.example:a/b.git", "", "", ""),
    ("deploy@h.example:b#v1.2:sub", "deploy@h.example:b", "v1.2", "sub", ""),
    ("github.com/org/repo", "https://github.com/org/repo", "", "", ""),
    ("github.com/org/repo.git#main:sub", "https://github.com/org/repo.git", "main", "sub", ""),
    ("https://h.example/b.git?ref=main&subdir=sub", "https://h.example/b.git", "main", "sub", ""),
    ("https://h.example/b.git?tag=v1", "https://h.example/b.git", "refs/tags/v1", "", ""),
    ("https://h.example/b.git?branch=x", "https://h.example/b.git", "refs/heads/x", "", ""),
    ("git@h.example:b?ref=main#main:sub", "git@h.example:b", "main", "sub", ""),
    (f"https://h.example/b.git?checksum={COMMIT}#v1", "https://h.example/b.git", "v1", "", COMMIT),
    ("https://h.example/b.git?submodules=false", "https://h.example/b.git", "", "", ""),
]


@pytest.mark.parametrize(("written", "url", "ref", "folder", "checksum"), GIT, ids=[row[0] for row in GIT])
def test_git(written: str, url: str, ref: str, folder: str, checksum: str) -> None:
    assert is_remote(written)
    assert parse(written) == GitReference(url, written, ref, folder, checksum)


REFUSED = [
    "https://h.example/page",
    "https://h.example/compose.yaml",
    "https:///b.git",
    "https://h.example:port/b.git",
    "https://h.example/.git/../../b",
    "file:///srv/b.git",
    "ftp://h.example/b.git",
    "ext://sh/b.git",
    "http+unix://x/b.git",
    "ssh://-oProxyCommand=sh/b",
    "ssh://-x@h.example/b",
    "-x@h.example:b",
    "git@-oProxyCommand:b",
    "git@h.example:",
    "git@h.example:-b",
    "https://h.example/b.git#-x",
    "https://h.example/b.git#--upload-pack=sh",
    "https://h.example/b.git#a b",
    "https://h.example/b.git#a..b",
    "https://h.example/b.git#a~1",
    "https://h.example/b.git#a^{}",
    "https://h.example/b.git#a*",
    "https://h.example/b.git#a:b/../../..",
    "https://h.example/b.git#main:../up",
    "https://h.example/b.git#main:/etc",
    "https://h.example/b.git#main:a/../../b",
    "https://h.example/b.git#main:.git/config",
    "https://h.example/b.git#main:a\\b",
    "https://h.example/b.git#main:-x",
    "https://h.example/b.git?ref=a#b",
    "https://h.example/b.git?ref=",
    "https://h.example/b.git?tag=a&branch=a",
    "https://h.example/b.git?what=1",
    "https://h.example/b.git?submodules=true",
    "https://h.example/b.git?keep-git-dir=1",
    "https://h.example/b.git?checksum=-x",
    "https://h.example/b\n.git",
    "https://h.example/b.git#a\x00",
    "oci://",
    "oci://H.example/Web",
    "oci://h.example/web:a b",
    "oci://h.example/web@sha256:12",
    "oci://h.example/../web",
    "oci://-h/web",
]


@pytest.mark.parametrize("written", REFUSED)
def test_refused(written: str) -> None:
    with pytest.raises(RemoteError):
        parse(written)


def test_artifacts() -> None:
    found = parse("oci://localhost:5000/team/shop")
    assert isinstance(found, ArtifactReference)
    assert str(found.image) == "localhost:5000/team/shop:latest"
    assert found.pinned("sha256:12") == "oci://localhost:5000/team/shop@sha256:12"
    hub = parse("oci://org/shop:1")
    assert isinstance(hub, ArtifactReference)
    assert str(hub.image) == "docker.io/org/shop:1"


def test_a_password_is_shown_nowhere() -> None:
    found = parse("https://me:hunter2@h.example/b.git#main")
    assert isinstance(found, GitReference)
    assert found.url == "https://me:hunter2@h.example/b.git"
    assert found.shown == "https://me:***@h.example/b.git#main"
    assert found.pinned(COMMIT) == f"https://me:***@h.example/b.git#{COMMIT}"
    with pytest.raises(RemoteError) as caught:
        parse("https://me:hunter2@h.example/b")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("path", ["compose.yaml", "./github.com/x", "a/b:c", "/x@y", "-", "", "a@b/c:d", "c:\\x"])
def test_local_paths(path: str) -> None:
    assert not is_remote(path)


def test_which_of_several_refs_is_meant() -> None:
    """ls-remote matches the ends of names, so that "main" also finds "old/main"; a tag wins over a branch."""
    listed = f"{'a' * 40}\trefs/heads/old/main\n{'b' * 40}\trefs/heads/main\n{'c' * 40}\trefs/remotes/x/main\n"
    assert chosen(listed, candidates("main")) == "b" * 40
    tag = f"{'d' * 40}\trefs/tags/main\n{'e' * 40}\trefs/tags/main^{{}}\n"
    assert chosen(listed + tag, candidates("main")) == "e" * 40
    assert chosen("garbage\n\t\nzz\trefs/heads/main\n", candidates("main")) == ""
    assert candidates("refs/pull/1/head") == ["refs/pull/1/head"]


def test_git_asks_nobody_and_knows_no_other_transport() -> None:
    made = environment_for({"GIT_DIR": "/x", "PATH": "/bin", "HTTPS_PROXY": "http://p"})
    assert made["GIT_ALLOW_PROTOCOL"] == "https:http:ssh:git"
    assert made["GIT_TERMINAL_PROMPT"] == "0"
    assert made["HTTPS_PROXY"] == "http://p"
    assert "BatchMode=yes" in made["GIT_SSH_COMMAND"]
    assert "GIT_DIR" not in made
    told = environment_for({"GIT_ALLOW_PROTOCOL": "file", "GIT_TERMINAL_PROMPT": "1", "GIT_SSH_COMMAND": "my-ssh"})
    assert (told["GIT_ALLOW_PROTOCOL"], told["GIT_SSH_COMMAND"]) == ("file", "my-ssh")
    assert "GIT_ASKPASS" not in told


def test_compose_file_names_a_remote_file() -> None:
    files = MemoryFiles({"/p/a.yaml": ""})
    one = "https://h.example:8443/b.git#main:sub"
    assert discover_files("/p", {"COMPOSE_FILE": one}, files) == [one]
    assert discover_files("/p", {"COMPOSE_FILE": "git@h.example:b.git"}, files) == ["git@h.example:b.git"]
    several = {"COMPOSE_PATH_SEPARATOR": "|", "COMPOSE_FILE": f"{one}|a.yaml"}
    assert discover_files("/p", several, files) == [one, "/p/a.yaml"]
    with pytest.raises(LoadError, match="COMPOSE_PATH_SEPARATOR"):
        discover_files("/p", {"COMPOSE_FILE": f"a.yaml:{one}"}, files)
    with pytest.raises(LoadError, match="COMPOSE_PATH_SEPARATOR"):
        discover_files("/p", {"COMPOSE_FILE": f"{one}:oci://x/y"}, files)
