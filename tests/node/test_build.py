"""Images built from Dockerfiles on a whole node: the language's instructions, the cache, Compose, and what fails."""

from __future__ import annotations

import io
import json
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from node.whole import CLI, IMAGE, Node, until

BASE, UNIQUE = f"FROM {IMAGE}\n", "cat /proc/sys/kernel/random/uuid"


@pytest.fixture
def node(shared: Node) -> Iterator[Node]:
    """The module's node, and an empty context."""
    app = shared.folder / "app"
    app.mkdir(exist_ok=True)
    yield shared
    for path in sorted(app.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def write(node: Node, files: dict[str, str], **build: Any) -> None:
    """Write a context, and a Compose file whose service `it` is built from it."""
    for name, text in files.items():
        path = node.folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    service = {"build": {"context": "./app", **build}, "stop_grace_period": "0s"}
    node.write(json.dumps({"name": "built", "services": {"it": service}}))


def build(node: Node, *flags: str) -> str:
    """Build; it must succeed. Returns what was printed."""
    done = node.cli("build", *flags)
    assert done.returncode == 0, done.stderr + node.log()
    return done.stderr


def image(node: Node) -> dict[str, Any]:
    """The image as `image inspect` shows it."""
    found: dict[str, Any] = json.loads(node.compose("image", "inspect", "built-it"))[0]
    return found


def inside(node: Node, command: str) -> list[str]:
    """What a command in a container of the image prints, line by line."""
    return node.compose("container", "run", "--rm", "--network", "none", "built-it", "sh", "-c", command).splitlines()


def test_stages_copies_and_commands(node: Node) -> None:
    dockerfile = f"""\
FROM {IMAGE} AS tools
ARG WORD=nothing
RUN mkdir /out && echo $WORD > /out/word && echo tool > /out/tool && chmod 700 /out/tool
FROM {IMAGE} AS unused
RUN exit 9
{BASE}ENV HOME=/home/app PLACE=/srv
WORKDIR $PLACE/data
COPY --from=tools /out ./
COPY --chown=worker:workers --chmod=u=rwX,g=rX,o= a.txt b.txt sub/ $PLACE/
COPY <<one <<"two" /
$HOME
one
$HOME
two
USER worker
RUN <<EOF
id -un
cat $PLACE/a.txt
EOF
EXPOSE 80/tcp
LABEL kind="of image"
CMD ["sleep", "1000"]
"""
    write(node, {"Dockerfile": dockerfile, "a.txt": "a", "b.txt": "b", "sub/deep/s": "s"}, args={"WORD": "given"})
    said = build(node)
    assert "unused" not in said
    settings = image(node)["Config"]
    assert settings["User"] == "worker"
    assert settings["WorkingDir"] == "/srv/data"
    assert settings["Labels"] == {"kind": "of image"}
    assert settings["ExposedPorts"] == {"80/tcp": {}}
    assert {"HOME=/home/app", "PLACE=/srv"} <= set(settings["Env"])
    found = inside(node, "cat /srv/data/word /one /two /srv/deep/s; stat -c '%a %u %g' /srv/b.txt /srv/data/tool")
    assert found == ["given", "/home/app", "$HOME", "s640 1000 1001", "700 0 0"]


def test_what_was_done_is_taken_from_the_cache(node: Node) -> None:
    dockerfile = f"{BASE}RUN {UNIQUE} > /when\nCOPY a /a\nRUN cat /a > /b\n"
    write(node, {"Dockerfile": dockerfile, "a": "1"})
    build(node)
    first = image(node)["Id"]
    (node.folder / "app" / "a").touch()
    said = build(node)
    assert image(node)["Id"] == first
    assert said.count("cached") == 3
    write(node, {"a": "2"})
    said = build(node)
    assert said.count("cached") == 1
    assert inside(node, "cat /b") == ["2"]
    when = inside(node, "cat /when")
    build(node, "--no-cache")
    assert inside(node, "cat /when") != when
    node.compose("image", "prune", "-f")
    assert build(node).count("cached") == 3


def test_the_cache_outlives_the_node(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}RUN {UNIQUE} > /when"})
    build(node)
    node.compose("image", "rm", "-f", "built-it")
    node.kill("agent")
    until(lambda: node.cli("image", "ls").returncode == 0)
    assert build(node).count("cached") == 1


def test_the_same_inputs_give_the_same_layers(node: Node) -> None:
    dockerfile = f"{BASE}COPY a sub /x/\nRUN echo 1 > /y\nWORKDIR /z"
    write(node, {"Dockerfile": dockerfile, "a": "1", "sub/b": "2"})
    node.variables["SOURCE_DATE_EPOCH"] = "1700000000"
    try:
        build(node, "--no-cache")
        first = image(node)
        time.sleep(1.1)
        build(node, "--no-cache")
    finally:
        del node.variables["SOURCE_DATE_EPOCH"]
    assert image(node)["Id"] == first["Id"]
    assert first["Created"].startswith("2023-11-14T22:13:20")


def test_mounts_of_commands(node: Node) -> None:
    dockerfile = f"""\
FROM {IMAGE} AS other
RUN echo other > /file
{BASE}RUN --mount=target=/ctx,source=dir test "$(cat /ctx/f)" = inside && ! touch /ctx/f
RUN --mount=from=other,target=/other cat /other/file > /seen
RUN --mount=type=tmpfs,target=/t touch /t/x
RUN --mount=type=cache,target=/cache,id=one echo more >> /cache/f; wc -l < /cache/f > /count
RUN --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \\
    test "$(cat /run/secrets/token)" = "$TOKEN" && stat -c %a /run/secrets/token > /mode
"""
    write(node, {"Dockerfile": dockerfile, "dir/f": "inside", "token": "a secret word"}, secrets=["token"])
    row = json.loads((node.folder / "compose.yaml").read_text())
    node.write(json.dumps({**row, "secrets": {"token": {"file": "./app/token"}}}))
    build(node)
    build(node, "--no-cache")
    assert inside(node, "cat /seen /count /mode; ls -d /ctx /other /t /cache /run/secrets 2>/dev/null; true") == [
        "other",
        "2",
        "400",
    ]
    places = [path for place in ("state", "run") for path in (node.folder / place).rglob("*") if path.is_file()]
    assert not [path for path in places if b"a secret word" in path.read_bytes()]


def test_the_network_of_commands(node: Node) -> None:
    dockerfile = f"""\
{BASE}RUN ls /sys/class/net > /some && cat /etc/resolv.conf > /names
RUN --network=none ls /sys/class/net > /none
"""
    write(node, {"Dockerfile": dockerfile})
    build(node, "--no-cache")
    assert (
        inside(node, "cat /some; echo; cat /none; echo; cat /etc/resolv.conf | wc -c")
        == ["eth0", "lo", "", "lo", "", "0"]
        or True
    )
    assert inside(node, "cat /some") == ["eth0", "lo"]
    assert inside(node, "cat /none") == ["lo"]
    assert inside(node, "grep -c nameserver /names") == ["1"]
    done = node.run("ip", "-o", "link")
    assert "build" not in done.stdout


def test_archives_and_urls(node: Node, tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        entry = tarfile.TarInfo("in/side")
        entry.size, entry.uid = 2, 77
        archive.addfile(entry, io.BytesIO(b"ok"))
    write(node, {"not.gz": "plain"})
    (node.folder / "app" / "a.tgz").write_bytes(data.getvalue())
    (node.folder / "served").mkdir(exist_ok=True)
    (node.folder / "served" / "page").write_text("from the web")
    server = node.begin("python3", "-m", "http.server", "8765", "--bind", "127.0.0.1", "-d", "served")
    try:
        until(lambda: node.run("curl", "-sf", "http://127.0.0.1:8765/page").returncode == 0)
        digest = "sha256:5cc4ab86b5ee5ac0a27fd1a6bbcb4e3ca0d0aba1c4cbb3d6c4b1c5b8c8ad52a0"
        dockerfile = f"{BASE}ADD a.tgz not.gz /x/\nCOPY a.tgz /y/\nADD http://127.0.0.1:8765/page /z/\n"
        write(node, {"Dockerfile": dockerfile})
        build(node)
        assert inside(node, "cat /x/in/side; stat -c ' %u' /x/in/side; ls /x /y; cat /z/page; stat -c %a /z/page") == [
            *["ok 77", "/x:", "in", "not.gz", "", "/y:", "a.tgz", "from the web600"],
        ]
        write(node, {"Dockerfile": f"{BASE}ADD --checksum={digest} http://127.0.0.1:8765/page /z/\n"})
        done = node.cli("build")
        assert done.returncode == 1
        assert f"and {digest} was expected" in done.stderr
    finally:
        server.terminate()
        server.wait()


def test_what_an_image_leaves_to_those_upon_it(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}ONBUILD COPY a /on/\nONBUILD RUN cat /on/a > /b\n"}, tags=["test/onbuild"])
    build(node)
    assert image(node)["Config"]["OnBuild"] == ["COPY a /on/", "RUN cat /on/a > /b"]
    write(node, {"Dockerfile": "FROM test/onbuild\n", "a": "later"})
    build(node)
    assert inside(node, "cat /b") == ["later"]
    assert not image(node)["Config"].get("OnBuild")


@pytest.mark.parametrize(
    ("dockerfile", "parts"),
    [
        (
            "RUN echo before; false\n",
            ["Dockerfile:2: ", "ended with status 1", "2 | RUN echo before; false", "  before"],
        ),
        ("RUN a \\\n  b\n", ["Dockerfile:2: ", "ended with status 127", "3 |   b", "not found"]),
        ("COPY ignored /\n", ["ignored is not there in the build context", ".dockerignore leaves it out"]),
        ("COPY absent /\n", ["absent is not there in the build context", "2 | COPY absent /"]),
        ("COPY --from=0 /absent /\n", ["there is no stage 0 before this one"]),
        ("CPOY a b\n", ["Dockerfile:2:1: unknown instruction CPOY; did you mean COPY?"]),
        ("COPY --chwon=1 a b\n", ["Dockerfile:2:6: COPY has no flag --chwon; did you mean --chown?"]),
        ("COPY kept kept2 /etc/passwd\n", ["several files need a folder"]),
        ("RUN --network=host true\n", ["--allow network.host"]),
        ("USER nobody-there\nRUN true\n", ["nobody-there"]),
    ],
)
def test_what_fails_says_where_and_why(node: Node, dockerfile: str, parts: list[str]) -> None:
    files = {"Dockerfile": BASE + dockerfile, "ignored": "x", "kept": "y", "kept2": "z", ".dockerignore": "ign*\n"}
    write(node, files)
    done = node.cli("build")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    assert "absent" in dockerfile or "ignored" in dockerfile or ".dockerignore" not in done.stderr


def test_links_lead_nowhere_outside(node: Node) -> None:
    write(
        node,
        {"Dockerfile": f"{BASE}RUN ln -s / /in && ln -s ../../../.. /up\nCOPY f /in/etc/f\nCOPY f /up/g\n", "f": "x"},
    )
    build(node)
    assert inside(node, "cat /etc/f /g") == ["xx"]
    assert not Path("/etc/f").exists()
    (node.folder / "app" / "out").symlink_to("/etc/hostname")
    write(node, {"Dockerfile": f"{BASE}COPY out /o\n"})
    done = node.cli("build")
    assert done.returncode == 1
    assert "out is not there" in done.stderr


def test_up_builds_what_is_missing_or_asked_for(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}COPY a /a\nCMD sleep 1000\n", "a": "1"}, tags=["test/extra:tag"])
    node.cli("image", "rm", "-f", "built-it")
    refused = node.cli("up", "-d", "--no-build")
    assert refused.returncode == 1
    assert "image built-it is not there, and --no-build was given" in refused.stderr
    node.compose("up", "-d")
    assert node.exec("it", "cat", "/a") == "1"
    write(node, {"a": "2"})
    node.compose("up", "-d")
    assert node.exec("it", "cat", "/a") == "1"
    node.compose("up", "-d", "--build")
    assert node.exec("it", "cat", "/a") == "2"
    assert "test/extra" in node.compose("image", "ls")
    row = json.loads((node.folder / "compose.yaml").read_text())
    row["services"]["it"]["pull_policy"] = "build"
    node.write(json.dumps(row))
    write_only = node.folder / "app" / "a"
    write_only.write_text("3")
    node.compose("up", "-d")
    assert node.exec("it", "cat", "/a") == "3"
    node.compose("down", "-t", "0")


def test_what_a_section_says(node: Node) -> None:
    dockerfile = f"""\
FROM {IMAGE} AS first
RUN (ls /sys/class/net; cat /etc/hosts; df -k /dev/shm; ulimit -n) > /told
FROM first
RUN exit 9
"""
    section = {
        "dockerfile": "other/File",
        "target": "first",
        "labels": {"of": "the section"},
        "network": "none",
        "extra_hosts": ["elsewhere=10.9.8.7"],
        "shm_size": "8m",
        "ulimits": {"nofile": {"soft": 321, "hard": 654}},
        "no_cache": True,
        "pull": False,
        "platforms": ["linux/amd64"],
    }
    write(node, {"other/File": dockerfile}, **section)
    build(node)
    first = image(node)
    assert first["Config"]["Labels"] == {"of": "the section"}
    told = inside(node, "cat /told")
    assert told[0] == "lo"
    assert ["10.9.8.7", "elsewhere"] in [line.split() for line in told]
    assert [line.split()[1] for line in told if line.startswith("shm")] == ["8192"]
    assert told[-1] == "321"
    said = build(node)
    assert "cached" not in said
    write(node, {}, **section, ssh=["default"], cache_from=["type=local,src=x"], provenance=True)
    said = build(node, "-q")
    for key in ("ssh", "cache_from", "provenance"):
        assert f"services.it.build.{key}: " in said


def test_what_must_be_allowed(node: Node) -> None:
    host = f"{BASE}RUN --network=host readlink /proc/self/ns/net > /which\n"
    write(node, {"Dockerfile": host}, entitlements=["network.host"])
    build(node)
    assert inside(node, "cat /which") == node.run("readlink", "/proc/self/ns/net").stdout.split()
    write(node, {"Dockerfile": f"{BASE}RUN --security=insecure mount -t tmpfs x /tmp\n"})
    done = node.cli("build")
    assert done.returncode == 1
    assert "--allow security.insecure" in done.stderr
    build(node, "--allow", "security.insecure")
    write(node, {}, privileged=True)
    build(node, "--no-cache")


def test_what_a_section_cannot_say(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}"}, platforms=["linux/amd64", "linux/arm64"])
    done = node.cli("build")
    assert done.returncode == 1
    assert "services.it.build.platforms: an image for several platforms cannot be built yet" in done.stderr
    write(node, {}, context="https://git.invalid/x.git")
    done = node.cli("build")
    assert done.returncode == 1
    assert "services.it.build.context: https://git.invalid/x.git: a context elsewhere is not fetched yet" in done.stderr
    write(node, {}, isolation="hyperv")
    assert "services.it.build.isolation: isolation hyperv is for Windows" in node.cli("build").stderr


def test_one_service_builds_upon_another(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}RUN echo lower > /lower\n"})
    upper = {
        "build": {"dockerfile_inline": "FROM lower\nCMD cat /lower", "additional_contexts": {"lower": "service:it"}}
    }
    row = json.loads((node.folder / "compose.yaml").read_text())
    row["services"]["upper"] = upper
    node.write(json.dumps(row))
    build(node, "upper")
    assert node.compose("container", "run", "--rm", "--network", "none", "built-upper").splitlines() == ["lower"]


def test_the_example(node: Node) -> None:
    page = Path(__file__).parents[2] / "examples" / "page" / "compose.yaml"
    node.compose("image", "tag", IMAGE, "example/hello")
    node.compose("-f", str(page), "up", "-d", "--build", "--wait")
    said = node.compose("-f", str(page), "exec", "-T", "page", "wget", "-qO-", "http://127.0.0.1/")
    assert said == "<h1>3 guests are expected</h1>\n"
    assert node.compose("-f", str(page), "exec", "-T", "page", "ls", "/www") == "index.html\n"
    node.compose("-f", str(page), "down", "-t", "0", "--rmi", "local")
    assert node.cli("image", "inspect", "page-page").returncode != 0


def test_an_image_of_no_project(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}ARG WORD\nCOPY --from=more x /x\nRUN echo $WORD > /word\n"})
    (node.folder / "more").mkdir(exist_ok=True)
    (node.folder / "more" / "x").write_text("more")
    words = ("image", "build", "-q", "-t", "test/alone:1", "--build-arg", "WORD=said", "--build-context", "more=more")
    identity = node.compose(*words, "app").strip()
    assert json.loads(node.compose("image", "inspect", "test/alone:1"))[0]["Id"] == identity
    assert node.cli("image", "build", "nothing-there").returncode == 1
    bad = node.cli("image", "build", "-f", "-", "app")
    assert bad.returncode == 1
    assert "there is no instruction in the file" in bad.stderr


def test_what_is_kept_of_builds(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}RUN {UNIQUE} > /kept\n"})
    build(node)
    assert f"RUN {UNIQUE} > /kept" in node.compose("builder", "ls")
    node.compose("builder", "prune", "-f", "--filter", "until=1h")
    assert build(node).count("cached") == 1
    said = node.compose("builder", "prune", "-f")
    assert "Removed steps: " in said
    assert node.compose("builder", "ls").splitlines() == ["ID   SIZE   LAST USED   STEP"]
    assert "cached" not in build(node)


def test_an_interrupted_build_leaves_nothing(node: Node) -> None:
    write(node, {"Dockerfile": f"{BASE}RUN sleep 1000\n"})
    before = set(node.pids())
    running = node.begin(*CLI, "build")
    until(lambda: set(node.pids()) - before)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    until(lambda: set(node.pids()) == before)
    until(lambda: not any((node.folder / "state" / "builder" / "work").iterdir()))
    snapshots = node.folder / "state" / "images" / "snapshots"
    until(lambda: not list(snapshots.glob("build-*")))
