"""Reading YAML: the values of YAML 1.2, the limits, and writing it back."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pycompose.compose.loader import LoadError
from pycompose.compose.loader.tree import Source
from pycompose.compose.loader.yaml_source import parse, scalar
from pycompose.compose.loader.yaml_text import dump


def read(text: str) -> object:
    return parse(Source("f.yaml", text))[0].tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("22:22", "22:22"),
        ("1:30", "1:30"),
        ("0777", 511),
        ("0o777", 511),
        ("0x10", 16),
        ("0b11", 3),
        ("08", 8.0),
        ("1_000", 1000),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("~", None),
        ("True", True),
        ("-12", -12),
        ("1.2.3", "1.2.3"),
        ("+", "+"),
    ],
)
def test_scalars(text: str, value: object) -> None:
    got = scalar(text)
    assert got == value
    assert type(got) is type(value)


def test_anchors_and_merge_keys() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 9}, *a], z: 0}\n"
    assert read(text) == {"a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"z": 0, "x": 9, "y": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r'f.yaml:3:1: a: the key "a" is here twice, first in line 1, column 1'),
        ("a:\n\tb: 1\n", "f.yaml:2:1: a tab, where YAML allows only spaces"),
        ("a: {1: 2}\n", "f.yaml:1:5: a: the key 1 is not a string"),
        ("a: &a [*a]\n", "contains itself"),
        ("a: *b\n", "anchor"),
        ("a: [", "f.yaml:2:1: not YAML"),
        ("a: {<<: 1}\n", "can be merged"),
        ("x: " + "[" * 100_000, "nested more than 100 levels"),
        ("x: " + "[" * 500 + "]" * 500, "nested more than 100 levels"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        read(text)


def test_alias_bomb_is_counted() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    with pytest.raises(LoadError, match="once aliases are written out"):
        read(bomb)


def test_many_services_sharing_an_environment_are_fine() -> None:
    shared = "x-env: &e {" + ", ".join(f"K{n}: v" for n in range(122)) + "}\n"
    tree = read(shared + "s: {" + ", ".join(f"s{n}: *e" for n in range(400)) + "}\n")
    assert isinstance(tree, dict)
    assert len(tree["s"]) == 400


def test_reset_and_override_are_paths_not_values() -> None:
    document = parse(Source("f", "a: !reset null\nb: {c: !override [1]}\nd: [!reset 1, 2]\n"))[0]
    assert document.tree == {"b": {"c": [1]}, "d": [2]}
    assert [(reset.path, reset.mark and reset.mark[1:]) for reset in document.resets] == [
        (("a",), (1, 1)),
        (("b", "c"), (2, 5)),
        (("d", 0), (3, 5)),
    ]


STRINGS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x85\u2028\u2029\ufeff"), max_size=30)
STRINGS = STRINGS.filter(lambda text: text != "=")  # PyYAML alone reads it as YAML 1.1's default value
TREES = st.recursive(
    STRINGS | st.none() | st.booleans() | st.integers(-(10**6), 10**6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(STRINGS.filter(lambda key: key != "<<"), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b-c", "y", "10", "true"]), TREES, min_size=1, max_size=3))
def test_what_is_written_reads_back(tree: dict[str, object]) -> None:
    text = dump(tree)
    assert read(text) == tree
    yaml.safe_load(text)
