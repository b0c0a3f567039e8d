"""develop.watch: patterns, what changes mean, and following files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pycompose.compose.develop.notify import Inotify, Notifier, Polling
from pycompose.compose.develop.rules import Rule, batches, rules_of
from pycompose.proto.patterns import Patterns


@pytest.mark.parametrize(
    ("patterns", "matching", "other"),
    [
        (["*.md"], ["a.md"], ["deep/a.md", "a.mdx"]),
        (["**/*.md"], ["a.md", "deep/er/a.md"], ["md"]),
        (["node_modules/"], ["node_modules", "node_modules/x/y"], ["a/node_modules"]),
        (["/build"], ["build/x"], ["deep/build"]),
        (["*.md", "!README.md"], ["a.md"], ["README.md"]),
        (["!a", "a"], ["a"], []),
        (["# note", "", "a?c"], ["abc", "axc/d"], ["ac", "a/c"]),
        (["[a-c]x", "[^a]y"], ["ax", "by"], ["dx", "ay"]),
        (["docs/**"], ["docs/a", "docs/a/b"], ["doc"]),
        (["./x/../y"], ["y"], ["x"]),
        (["a+b", "a.b"], ["a+b", "a.b"], ["aab", "axb"]),
    ],
)
def test_patterns(patterns: list[str], matching: list[str], other: list[str]) -> None:
    found = Patterns(patterns)
    assert [path for path in matching if not found.match(path)] == []
    assert [path for path in other if found.match(path)] == []


SERVICE = {
    "build": {"context": "/p"},
    "volumes": [{"type": "bind", "source": "/p/bound", "target": "/b"}],
    "develop": {
        "watch": [
            {"action": "sync", "path": "/p", "target": "/app", "ignore": ["vendor/"]},
            {"action": "sync+restart", "path": "/p/conf", "target": "/etc/conf", "include": ["*.ini"]},
            {"action": "rebuild", "path": "/p/package.json"},
            {"action": "sync+exec", "path": "/p/src", "target": "/app/src", "exec": {"command": ["make"]}},
            {"action": "sync", "path": "/p/bound/x", "target": "/b/x"},
        ]
    },
}


def test_what_changes_mean() -> None:
    warnings: list[str] = []
    ignored = {"/p/.dockerignore": "*.log\n"}
    rules = rules_of("web", SERVICE, ignored.get, warnings.append)
    assert [rule.place[-2] for rule in rules] == ["0", "1", "2", "3"]
    assert "services.web.develop.watch[4]: /p/bound/x is in a bind mount" in warnings[0]
    there = {"/p/a", "/p/conf/x.ini", "/p/conf/x.txt", "/p/src/m.c", "/p/package.json"}
    changed = [*there, "/p/gone", "/p/vendor/lib", "/p/x.log", "/p/.git/index", "/p/.a.swp", "/elsewhere", "/p/a"]
    batch = batches(rules, changed, there.__contains__)["web"]
    assert batch.files == {
        "/app/a": "/p/a",
        "/app/conf/x.ini": "/p/conf/x.ini",
        "/app/conf/x.txt": "/p/conf/x.txt",
        "/app/package.json": "/p/package.json",
        "/app/src/m.c": "/p/src/m.c",
        "/etc/conf/x.ini": "/p/conf/x.ini",
    }
    assert batch.gone == {"/app/gone"}
    assert (batch.restart, batch.rebuild, batch.hooks) == (True, True, [{"command": ["make"]}])
    assert batches(rules, ["/p/conf/x.txt"], there.__contains__)["web"].restart is False
    assert batches(rules, ["/elsewhere"], there.__contains__) == {}


def test_a_rule_about_one_file() -> None:
    rule = Rule("web", "sync", "/p/app.conf", "/etc/app.conf")
    assert rule.within("/p/app.conf") == "."
    assert rule.destination(".") == "/etc/app.conf"
    assert rule.within("/p/app.conf2") is None


@pytest.mark.parametrize("kind", [Inotify, Polling])
def test_files_are_followed(kind: type[Inotify] | type[Polling], tmp_path: Path) -> None:
    (tmp_path / "in" / "skipped").mkdir(parents=True)
    (tmp_path / "single").write_text("1")
    (tmp_path / "beside").write_text("1")
    followed: Notifier = kind([str(tmp_path / "in"), str(tmp_path / "single")], lambda path: path.endswith("skipped"))

    def until(*names: str) -> set[str]:
        wanted, found = {str(tmp_path / name) for name in names}, set[str]()
        for _ in range(40):
            found |= followed.read(0.5)
            if wanted <= found:
                return found
        raise AssertionError(f"{wanted - found} did not come; {found} did")

    (tmp_path / "in" / "a").write_text("1")
    until("in/a")
    (tmp_path / "in" / "new" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "new" / "deep" / "b").write_text("1")
    until("in/new/deep/b")
    (tmp_path / "replacement").write_text("other")
    os.replace(tmp_path / "replacement", tmp_path / "single")
    (tmp_path / "in" / "skipped" / "c").write_text("1")
    (tmp_path / "beside").write_text("22")
    os.remove(tmp_path / "in" / "a")
    found = until("single", "in/a")
    assert not {path for path in found if "skipped" in path or "beside" in path}
    followed.close()
    followed.read(0.1)
