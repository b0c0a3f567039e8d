"""Remote files in the loader: where their paths start, and what they may not name. All in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pycompose.compose.loader import Fetched, LoadError, MemoryFiles, Project, RemoteError, load

URL = "https://h.example/app.git"
OTHER = "https://h.example/other.git"
ROOTS = {URL: "/cache/1/files", OTHER: "/cache/2/files"}
WEB = "services: {web: {image: web}}\n"


class Linked(MemoryFiles):
    """Files of which some are symbolic links."""

    def __init__(self, files: Mapping[str, str], links: Mapping[str, str]) -> None:
        super().__init__(files)
        self.links = links

    def real(self, path: str) -> str:
        for link, target in self.links.items():
            if path == link or path.startswith(f"{link}/"):
                return target + path.removeprefix(link)
        return path

    def is_file(self, path: str) -> bool:
        return super().is_file(self.real(path))

    def read(self, path: str) -> bytes:
        return super().read(self.real(path))


def fetch(written: str) -> Fetched:
    """Bring a remote file: it lies in the memory already."""
    url, _, below = written.partition("#main:")
    if url not in ROOTS:
        raise RemoteError(f"{written}: nobody answers", "wait")
    path = f"{ROOTS[url]}/{below or 'compose.yaml'}"
    return Fetched(written, f"{url}#{'1' * 40}", ROOTS[url], path)


def project(
    remote: str = WEB,
    sources: tuple[str, ...] = (URL,),
    files: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    **options: Any,
) -> Project:
    """Load a project whose remote file has this text."""
    contents = {f"{ROOTS[URL]}/compose.yaml": remote, "/p/compose.yaml": WEB, "/etc/secret": "A=1", **(files or {})}
    options = {"project_directory": "/p", "environment": {"HOME": "/root"}, **options}
    return load(list(sources), files=Linked(contents, links or {}), fetch=fetch, **options)


def said(remote: str, **options: Any) -> str:
    """Return why a project is refused."""
    with pytest.raises(LoadError) as caught:
        project(remote, **options)
    return str(caught.value)


def test_paths_start_at_the_remote_file_and_the_name_is_the_users() -> None:
    text = """
services:
  web:
    image: web
    build: {context: app}
    volumes: ["./data:/d", "named:/n"]
    env_file: [web.env, {path: gone.env, required: false}]
    label_file: labels
    security_opt: ["seccomp=profile.json", "seccomp:unconfined"]
    develop: {watch: [{path: src, action: sync, target: /s}]}
configs: {c: {file: c.txt}}
volumes: {named: }
"""
    files = {"/cache/1/files/web.env": "X=1", "/cache/1/files/labels": "l=1"}
    found = project(text, files=files)
    web = found.services["web"]
    assert found.name == "p"
    assert found.working_dir == "/p"
    assert found.config_files == (f"{URL}#{'1' * 40}",)
    assert web["build"]["context"] == "/cache/1/files/app"
    assert web["volumes"][0]["source"] == "/cache/1/files/data"
    assert web["environment"] == {"X": "1"}
    assert web["labels"] == {"l": "1"}
    assert web["security_opt"] == ["seccomp=/cache/1/files/profile.json", "seccomp:unconfined"]
    assert web["develop"]["watch"][0]["path"] == "/cache/1/files/src"


OUTSIDE = {
    "absolute bind": "services: {web: {image: x, volumes: ['/etc:/e']}}",
    "bind above": "services: {web: {image: x, volumes: ['../..:/e']}}",
    "bind of the home": "services: {web: {image: x, volumes: ['~/.ssh:/e']}}",
    "bind of a sibling": "services: {web: {image: x, volumes: ['../files2:/e']}}",
    "long bind": "services: {web: {image: x, volumes: [{type: bind, source: /etc, target: /e}]}}",
    "a volume that becomes a bind": "services: {web: {image: x, volumes: [{type: volume, source: ../x, target: /e}]}}",
    "bind by variable": "services: {web: {image: x, volumes: ['${HOME}/.ssh:/e']}}",
    "bind through a link": "services: {web: {image: x, volumes: ['./link:/e']}}",
    "bind below a link": "services: {web: {image: x, volumes: ['./link/ssh/new:/e']}}",
    "bind option": "volumes: {v: {driver_opts: {type: none, o: bind, device: /etc}}}",
    "rbind option": "volumes: {v: {driver: local, driver_opts: {type: none, o: 'rbind,ro', device: ../..}}}",
    "disk": "volumes: {v: {driver_opts: {type: ext4, device: /dev/sda1}}}",
    "env file": "services: {web: {image: x, env_file: /etc/secret}}",
    "optional env file": "services: {web: {image: x, env_file: [{path: ../../../etc/secret, required: false}]}}",
    "env file through a link": "services: {web: {image: x, env_file: link/secret}}",
    "label file": "services: {web: {image: x, label_file: [../../../etc/secret]}}",
    "secret": "secrets: {s: {file: /etc/secret}}",
    "config": "configs: {c: {file: ../../../etc/secret}}",
    "build context": "services: {web: {build: ../..}}",
    "build context in long form": "services: {web: {build: {context: /}}}",
    "dockerfile": "services: {web: {build: {context: ., dockerfile: ../../x}}}",
    "dockerfile alone": "services: {web: {build: {dockerfile: /etc/secret}}}",
    "additional context": "services: {web: {build: {context: ., additional_contexts: {a: /etc}}}}",
    "additional context in a list": "services: {web: {build: {context: ., additional_contexts: ['a=/etc']}}}",
    "additional layout": "services: {web: {build: {context: ., additional_contexts: {a: 'oci-layout:///srv/x'}}}}",
    "ssh key": "services: {web: {build: {context: ., ssh: ['default=/root/.ssh/id_rsa']}}}",
    "build cache": "services: {web: {build: {context: ., cache_from: ['type=local,src=/srv']}}}",
    "watched folder": "services: {web: {image: x, develop: {watch: [{path: /root, action: sync, target: /s}]}}}",
    "watched link": "services: {web: {image: x, develop: {watch: [{path: link, action: sync, target: /s}]}}}",
    "seccomp profile": "services: {web: {image: x, security_opt: ['seccomp:/etc/secret']}}",
    "extended file": "services: {web: {extends: {file: /p/compose.yaml, service: web}}}",
    "extended file above": "services: {web: {extends: {file: ../../../p/compose.yaml, service: web}}}",
    "included file": "include: [/p/compose.yaml]",
    "included file above": "include: ['../../../p/compose.yaml']",
    "included second file": "include: [{path: [sub.yaml, /p/compose.yaml]}]",
    "included folder": "include: [{path: sub.yaml, project_directory: /p}]",
    "included variables": "include: [{path: sub.yaml, env_file: /etc/secret}]",
    "included link": "include: [link/secret]",
}


@pytest.mark.parametrize("what", OUTSIDE)
def test_a_remote_file_names_nothing_outside(what: str) -> None:
    text = OUTSIDE[what]
    files = {"/cache/1/files/sub.yaml": WEB}
    links = {"/cache/1/files/link": "/etc"}
    message = said(text, files=files, links=links)
    place, _, rest = message.partition(": ")
    assert place.startswith("/cache/1/files/compose.yaml:1:")
    assert rest.startswith(("services.web.", "volumes.v.", "secrets.s.", "configs.c.", "include[0]"))
    assert f"out of {URL}; a remote file may only name what came with it" in rest
    assert "--trust-remote" in rest


NO_PROJECT = ("a volume that becomes a bind", "included link")
"""These are refused in any case, for what they are."""


@pytest.mark.parametrize("what", [what for what in OUTSIDE if what not in NO_PROJECT])
def test_the_user_may_trust_it(what: str) -> None:
    files = {"/cache/1/files/sub.yaml": WEB, "/p/secret": "", "/etc/ssh/x": ""}
    project(OUTSIDE[what], files=files, links={"/cache/1/files/link": "/etc"}, trust_remote=True)


def test_all_that_is_outside_is_said_at_once() -> None:
    text = """services:
  a: {image: x, volumes: ["/etc:/e", "./fine:/f", "/srv:/s"]}
  b: {image: x, env_file: /etc/secret}
"""
    message = said(text)
    for place in (
        "2:27: services.a.volumes[0]: /etc",
        "2:51: services.a.volumes[2]: /srv",
        "3:17: services.b.env_file",
    ):
        assert f"/cache/1/files/compose.yaml:{place}" in message


def test_another_file_cannot_hide_or_complete_what_a_remote_one_names() -> None:
    """Each file is looked at alone: what it names counts whatever the files above and below it say."""
    more = "services: {web: {volumes: [{type: bind, target: /e, read_only: true}]}}"
    text = "services: {web: {image: x, volumes: [{type: volume, source: /etc, target: /e}]}}\n---\n" + more
    assert "leads out of" in said(text)
    over = {"/p/over.yaml": "services: {web: {volumes: !override []}}"}
    assert "leads out of" in said(OUTSIDE["absolute bind"], sources=(URL, "/p/over.yaml"), files=over)


def test_without_interpolation_and_paths_it_is_looked_at_as_well() -> None:
    for options in ({"interpolate": False}, {"resolve_paths": False}, {"normalise": False}):
        assert "leads out of" in said(OUTSIDE["absolute bind"], **options)
    kept = project("services: {web: {image: x, volumes: ['./d:/d']}}", resolve_paths=False)
    assert kept.services["web"]["volumes"][0]["source"] == "./d"


def test_local_files_beside_it_keep_their_own_paths() -> None:
    local = {"/p/over.yaml": "services: {web: {volumes: ['./mine:/m', '/etc:/e'], env_file: x.env}}", "/p/x.env": "A=1"}
    text = "services: {web: {image: x, volumes: ['./its:/i']}}"
    for sources in ((URL, "/p/over.yaml"), ("/p/over.yaml", URL)):
        found = project(text, sources=sources, files=local)
        mounted = {one["target"]: one["source"] for one in found.services["web"]["volumes"]}
        assert mounted == {"/i": "/cache/1/files/its", "/m": "/p/mine", "/e": "/etc"}


def test_include_has_its_own_folder_and_variables() -> None:
    local = f"""
include:
  - {URL}
  - path: ["{OTHER}#main:deploy/app.yaml", over.yaml]
    env_file: mine.env
services: {{own: {{image: own, volumes: ["./x:/x"]}}}}
"""
    files = {
        "/p/compose.yaml": local,
        "/p/mine.env": "TAG=mine",
        "/p/over.yaml": "services: {db: {labels: {over: '1'}}}",
        "/cache/1/files/.env": "TAG=its",
        "/cache/2/files/deploy/app.yaml": "services: {db: {image: 'db:${TAG}', volumes: ['../data:/d']}}",
    }
    found = project(
        "services: {web: {image: 'web:${TAG}', volumes: ['./d:/d']}}", sources=("/p/compose.yaml",), files=files
    )
    services = found.services
    assert services["web"]["image"] == "web:its"
    assert services["web"]["volumes"][0]["source"] == "/cache/1/files/d"
    assert services["db"]["image"] == "db:mine"
    assert services["db"]["labels"] == {"over": "1"}
    assert services["db"]["volumes"][0]["source"] == "/cache/2/files/data"
    assert services["own"]["volumes"][0]["source"] == "/p/x"
    assert [one.reference for one in found.remotes] == [URL, f"{OTHER}#main:deploy/app.yaml"]


def test_a_local_file_may_give_it_a_folder() -> None:
    local = {"/p/compose.yaml": f"include: [{{path: '{URL}', project_directory: ./here}}]"}
    text = "services: {web: {image: x, volumes: ['./d:/d']}}"
    found = project(text, sources=("/p/compose.yaml",), files=local)
    assert found.services["web"]["volumes"][0]["source"] == "/p/here/d"
    for outside in ("../d:/d", "/p:/d"):
        assert "leads out of" in said(text.replace("./d:/d", outside), sources=("/p/compose.yaml",), files=local)


def test_remote_files_include_and_extend_remote_files() -> None:
    text = f"""
include: [sub/more.yaml, "{OTHER}"]
services:
  web: {{extends: {{file: sub/base.yaml, service: base}}}}
  far: {{extends: {{file: "{OTHER}#main:lib/base.yaml", service: top}}}}
"""
    files = {
        "/cache/1/files/sub/more.yaml": "services: {more: {image: x, volumes: ['./m:/m', '../up:/u']}}",
        "/cache/1/files/sub/base.yaml": "services: {base: {image: x, volumes: ['./b:/b']}}",
        "/cache/2/files/compose.yaml": "services: {other: {image: x, volumes: ['./o:/o']}}",
        "/cache/2/files/lib/base.yaml": (
            "services: {top: {extends: {file: ../low.yaml, service: low}}, unused: {image: x, volumes: ['/etc:/e']}}"
        ),
        "/cache/2/files/low.yaml": "services: {low: {image: low, volumes: ['./l:/l']}}",
    }
    found = project(text, files=files).services
    sources = {name: [one["source"] for one in service["volumes"]] for name, service in found.items()}
    assert sources == {
        "more": ["/cache/1/files/sub/m", "/cache/1/files/up"],
        "web": ["/cache/1/files/sub/b"],
        "other": ["/cache/2/files/o"],
        "far": ["/cache/2/files/l"],
    }


@pytest.mark.parametrize(
    "base",
    [
        "services: {base: {image: x, volumes: ['/etc:/e']}}",
        "services: {base: {extends: {service: low}}, low: {image: x, env_file: /etc/secret}}",
        "services: {base: {extends: {file: /p/compose.yaml, service: web}}}",
        "services: {base: {extends: {file: ../../../p/compose.yaml, service: web}}}",
    ],
)
@pytest.mark.parametrize("local", [True, False], ids=["from a local file", "from a remote file"])
def test_an_extended_remote_file_names_nothing_outside(base: str, local: bool) -> None:
    text = f"services: {{web: {{extends: {{file: '{OTHER}#main:base.yaml', service: base}}}}}}"
    files = {"/cache/2/files/base.yaml": base, **({"/p/compose.yaml": text} if local else {})}
    sources = ("/p/compose.yaml",) if local else (URL,)
    message = said(text, sources=sources, files=files)
    assert message.startswith("/cache/2/files/base.yaml:1:")
    assert f"out of {OTHER}" in message


def test_cycles_are_printed_in_order() -> None:
    files = {"/cache/2/files/compose.yaml": f"include: ['{URL}']", "/p/compose.yaml": f"include: ['{URL}']"}
    message = said(f"include: ['{OTHER}']", sources=("/p/compose.yaml",), files=files)
    one = "1" * 40
    assert f"include cycle detected: {URL}#{one} -> {OTHER}#{one} -> {URL}#{one}" in message
    bases = {"/cache/2/files/compose.yaml": f"services: {{b: {{extends: {{file: '{URL}', service: a}}}}}}"}
    message = said(f"services: {{a: {{extends: {{file: '{OTHER}', service: b}}}}}}", files=bases)
    assert "services extend each other in a circle: a (" in message


def test_what_cannot_be_had_has_its_place() -> None:
    files = {"/p/compose.yaml": "services:\n  a: {extends: {file: 'https://x.example/y.git', service: b}}\n"}
    message = said("", sources=("/p/compose.yaml",), files=files)
    assert message.startswith("/p/compose.yaml:2:")
    assert "services.a.extends.file: https://x.example/y.git: nobody answers; wait" in message
    files = {"/p/compose.yaml": "include:\n  - https://x.example/y.git\n"}
    assert "/p/compose.yaml:2:5: include[0]: https://x.example/y.git: nobody" in said(
        "", sources=("/p/compose.yaml",), files=files
    )
    assert "https://x.example/y.git: nobody answers; wait" in said("", sources=("https://x.example/y.git",))


def test_what_it_reads_of_the_environment_is_known() -> None:
    text = """
name: ${NAME:-x}
include: [more.yaml]
services:
  web: {image: "x:${TAG:?say it}", environment: [PASSED, SET=1]}
  map: {image: "$$NOT", environment: {EMPTY: , OTHER: "${A:-$B}"}}
secrets: {s: {environment: SECRET}}
"""
    files = {"/cache/1/files/more.yaml": "services: {more: {image: '${MORE}'}}"}
    found = project(text, files=files, environment={"TAG": "1", "MORE": "m", "SECRET": "s"})
    assert list(found.remote_variables) == ["A", "B", "EMPTY", "MORE", "NAME", "PASSED", "SECRET", "TAG"]
    assert found.remote_variables["TAG"].required
    assert project(sources=("/p/compose.yaml",)).remote_variables == {}


def test_at_most_fifty_remote_files() -> None:
    many = "".join(f"  - {URL}#main:f{n}.yaml\n" for n in range(60))
    files = {f"/cache/1/files/f{n}.yaml": f"services: {{s{n}: {{image: x}}}}" for n in range(60)}
    message = said("", sources=("/p/compose.yaml",), files={**files, "/p/compose.yaml": f"include:\n{many}"})
    assert "more than 50 remote files" in message
