"""Files that want to exhaust or fool the loader: each ends soon, with a message that names the place."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pycompose.compose.loader import DiskFiles, LoadError, MemoryFiles, load

SECONDS = 20
"""Far more than any of these takes, so that a loaded machine does not fail the test; seconds."""


def said(text: str, **more: str) -> str:
    """Load a file that must be refused; return the message."""
    files = {"/p/compose.yaml": text, **{f"/p/{name.replace('_', '.')}": body for name, body in more.items()}}
    started = time.monotonic()
    with pytest.raises(LoadError) as caught:
        load(["/p/compose.yaml"], files=MemoryFiles(files))
    assert time.monotonic() - started < SECONDS
    return str(caught.value)


def bomb(width: int, depth: int, item: str = "[{}]", key: str = "x-{}") -> str:
    """Return aliases of aliases, `width` on each of `depth` levels."""
    lines = [f"{key.format(0)}: &a0 {item.format(', '.join(['x'] * width))}\n"]
    for level in range(1, depth):
        aliases = ", ".join([f"*a{level - 1} "] * width)
        lines += [f"{key.format(level)}: &a{level} {item.format(aliases)}\n"]
    return "".join(lines)


@pytest.mark.parametrize(("width", "depth"), [(9, 9), (3, 12), (9, 40)])
def test_alias_bombs_in_keys_that_nobody_uses(width: int, depth: int) -> None:
    message = said(bomb(width, depth) + "services: {a: {image: x}}\n")
    assert "values once aliases are written out" in message
    assert "/p/compose.yaml:" in message


def test_an_alias_bomb_through_merge_keys() -> None:
    lines = ["x-0: &a0 {" + ", ".join(f"k{n}: v" for n in range(500)) + "}\n"]
    lines += [f"x-{n}: &a{n} {{l: *a{n - 1} , m: {{<<: *a{n - 1} }}}}\n" for n in range(1, 30)]
    assert "values once aliases are written out" in said("".join(lines) + "services: {a: {image: x}}\n")


def test_an_alias_bomb_in_a_list_of_env_files() -> None:
    text = bomb(9, 9) + "services: {a: {image: x, env_file: *a8 }}\n"
    assert "values once aliases are written out" in said(text)


def test_the_benign_twin_loads() -> None:
    shared = "x-env: &e {" + ", ".join(f"K{n}: v" for n in range(122)) + "}\n"
    text = shared + "services:\n" + "".join(f"  s{n}: {{image: x, environment: *e }}\n" for n in range(400))
    loaded = load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text}))
    assert len(loaded.services["s399"]["environment"]) == 122


@pytest.mark.parametrize("depth", [500, 2_000, 100_000])
@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_depth(opening: str, depth: int) -> None:
    assert "nested more than 100 levels deep" in said(f"x: {opening * depth}" if opening != "- " else opening * depth)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services:\n  a:\n    image: x\n    image: y\n", "compose.yaml:4:5: services.a.image: the key"),
        ("services:\n  a: {image: x}\n  a: {image: y}\n", "first in line 2, column 3"),
        ('services: {a: {image: x, labels: {a: 1, "a": 2}}}\n', 'the key "a" is here twice'),
        ("services: {a: {image: x, labels: {1: a}}}\n", "the key 1 is not a string"),
        ("services: {a: {image: x, <<: {b: 1}, <<: {c: 1}}}\n", 'the key "<<" is here twice'),
        ("services: {a: {image: x, ports: ['80:80', '80:80']}}\n", ""),
    ],
)
def test_duplicate_keys(text: str, message: str) -> None:
    if message:
        assert message in said(text)
    else:
        loaded = load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text}))
        assert len(loaded.services["a"]["ports"]) == 1


def test_merge_keys_and_further_files_are_no_duplicates() -> None:
    files = {
        "/p/a.yaml": "x-b: &b {image: x, user: a}\nservices: {a: {<<: *b , user: b}}\n",
        "/p/b.yaml": "services: {a: {image: y}}\n",
    }
    service = load(["/p/a.yaml", "/p/b.yaml"], files=MemoryFiles(files)).services["a"]
    assert (service["image"], service["user"]) == ("y", "b")


def test_include_chains_and_cycles_are_printed_in_order() -> None:
    assert "include cycle detected: /p/compose.yaml -> /p/b.yaml -> /p/compose.yaml" in said(
        "include: [b.yaml]\n", b_yaml="include: [compose.yaml]\n"
    )
    chain = {f"c{n}_yaml": f"include: [c{n + 1}.yaml]\nservices: {{s{n}: {{image: x}}}}\n" for n in range(1000)}
    assert "more than 50 files include one another" in said("include: [c0.yaml]\n", **chain)


def test_extends_in_a_circle_over_two_files() -> None:
    message = said(
        "services: {a: {extends: {file: b.yaml, service: b}}}\n",
        b_yaml="services: {b: {extends: {file: compose.yaml, service: a}}}\n",
    )
    assert "services extend each other in a circle: a (/p/compose.yaml) -> b (/p/b.yaml) -> a" in message


def test_dependencies_in_a_circle() -> None:
    assert "dependency cycle detected: a -> a" in said("services: {a: {image: x, depends_on: [a]}}\n")


@pytest.mark.parametrize("name", ["https://example.com/x.git", "oci://example.com/x", "git@example.com:x/y.git"])
def test_nothing_is_fetched(name: str) -> None:
    assert "remote files are not fetched here" in said(f"include: ['{name}']\nservices: {{a: {{image: x}}}}\n")
    assert "remote files are not fetched here" in said(
        f"services: {{a: {{extends: {{file: '{name}', service: b}}}}}}\n"
    )


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${A:-" * 10_000 + "x" + "}" * 10_000, "variables are nested more than 100 deep"),
        ("$${", ""),
        ("${", "invalid interpolation format"),
        ("${A:?say it}", "required variable A is missing a value: say it"),
        ("${A/b/c}", "invalid interpolation format"),
    ],
)
def test_interpolation(template: str, message: str) -> None:
    text = f"services: {{a: {{image: x, labels: {{l: '{template}'}}}}}}\n"
    if message:
        assert message in said(text)
    else:
        files = MemoryFiles({"/p/compose.yaml": text})
        assert load(["/p/compose.yaml"], files=files).services["a"]["labels"] == {"l": "${"}


def test_what_a_variable_holds_is_text_and_never_read_again() -> None:
    files = MemoryFiles({"/p/compose.yaml": "services: {a: {image: x, user: '$V', labels: {l: '$W'}}}\n"})
    environment = {"V": "x\n  privileged: true", "W": "${V} 'q' = \"d\""}
    service = load(["/p/compose.yaml"], files=files, environment=environment).services["a"]
    assert service["user"] == "x\n  privileged: true"
    assert service["labels"] == {"l": "${V} 'q' = \"d\""}
    assert "privileged" not in service


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A='open\n", "unterminated quoted value"),
        ("a key=1\n", "has a space in it"),
        ("a!b=1\n", "unexpected character '!'"),
        ("B=${\n", "invalid interpolation format"),
    ],
)
def test_env_files_are_named_with_their_line(text: str, message: str) -> None:
    files = {"/p/compose.yaml": "services: {a: {image: x, env_file: v.env}}\n", "/p/v.env": "OK=1\n" + text}
    with pytest.raises(LoadError) as caught:
        load(["/p/compose.yaml"], files=MemoryFiles(files))
    assert message in str(caught.value)
    assert "/p/v.env:2:1" in str(caught.value)


def test_env_files_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.env")
    (tmp_path / "folder.env").mkdir()
    with (tmp_path / "large.env").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    compose = tmp_path / "compose.yaml"
    for name, message in (("fifo", "not a regular file"), ("folder", "directory"), ("large", "larger than 64 MB")):
        compose.write_text(f"services: {{a: {{image: x, env_file: {name}.env}}}}\n")
        with pytest.raises(LoadError, match=message):
            load([compose], files=DiskFiles())
    compose.write_text("services: {a: {image: x, env_file: [{path: no.env, required: false}]}}\n")
    assert "environment" not in load([compose]).services["a"]


def test_windows_line_ends_and_export() -> None:
    files = {
        "/p/compose.yaml": "services: {a: {image: x, env_file: v.env}}\r\n",
        "/p/v.env": "export A=1\r\nB='x y'\r\n",
    }
    service = load(["/p/compose.yaml"], files=MemoryFiles(files)).services["a"]
    assert service["environment"] == {"A": "1", "B": "x y"}
