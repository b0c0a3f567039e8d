"""Variables in values: every form, and no input that escapes as anything but a TemplateError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycompose.compose.loader import LoadError, MemoryFiles, load
from pycompose.compose.loader.interpolate import TemplateError, substitute

VARIABLES = {"A": "a", "EMPTY": "", "REF": "${A}"}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$A ${A}", "a a"),
        ("${NONE}|", "|"),
        ("${EMPTY:-x} ${EMPTY-x} ${NONE-x} ${A:-x}", "x  x a"),
        ("${A:+x} ${A+x} ${EMPTY:+x} ${EMPTY+x} ${NONE+x}|", "x x  x |"),
        ("${NONE:-${ALSO:-$A}}", "a"),
        ("${NONE:-{}}|", "{}|"),
        ("$$A $${A}", "$A ${A}"),
        ("$5 $ costs", "$5 $ costs"),
        ("${REF}", "${A}"),
        ("${A?no} ${EMPTY?no}|", "a |"),
        ("${NONE:-a?b} ${A:-x}", "a?b a"),
    ],
)
def test_forms(template: str, expected: str) -> None:
    assert substitute(template, VARIABLES.get) == expected


@pytest.mark.parametrize("template", ["${", "${}", "${A/b/c}", "${A:0:1}", "${A:=x}", "${-x}", "${A:-x\ny}"])
def test_malformed(template: str) -> None:
    with pytest.raises(TemplateError, match="invalid interpolation"):
        substitute(template, VARIABLES.get)


def test_required() -> None:
    with pytest.raises(TemplateError, match="required variable NONE is missing a value: say a"):
        substitute("${NONE:?say $A}", VARIABLES.get)
    with pytest.raises(TemplateError, match="EMPTY"):
        substitute("${EMPTY:?}", VARIABLES.get)


def test_nesting_is_bounded() -> None:
    with pytest.raises(TemplateError, match="nested"):
        substitute("${N:-" * 5000 + "x" + "}" * 5000, VARIABLES.get)
    assert substitute("${N:-y} " * 3000, VARIABLES.get) == "y " * 3000


def test_unset_variables_are_named_once() -> None:
    files = MemoryFiles({"/p/compose.yaml": "services: {web: {image: 'x$NONE', hostname: 'y$NONE'}}"})
    project = load(["/p/compose.yaml"], files=files)
    assert project.warnings == ('The "NONE" variable is not set. Defaulting to a blank string.',)


FRAGMENTS = st.sampled_from(["$", "{", "}", ":", "-", "+", "?", "A", "EMPTY", "NONE", " ", "$$", "${", "\n", "é", "x"])


@given(st.lists(FRAGMENTS, max_size=40).map("".join))
def test_any_text_is_text_or_a_template_error(template: str) -> None:
    try:
        result = substitute(template, VARIABLES.get)
    except TemplateError:
        return
    if "$" not in template:
        assert result == template


@given(st.text(max_size=60))
def test_escaped_text_comes_back(text: str) -> None:
    assert substitute(text.replace("$", "$$"), VARIABLES.get) == text


@given(st.text(st.characters(codec="utf-8"), max_size=120))
def test_any_file_loads_or_is_a_load_error(text: str) -> None:
    try:
        load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text}))
    except LoadError as error:
        said = str(error)
    else:
        return
    assert said


VALUES = st.recursive(
    st.sampled_from(["null", "true", "1", "1.5", '""', "x", '"80:80"', "./a:/b", "5s", "1g", "a=b", "2001-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(["a", "source", "target", "path", "test", "x-a"]), inner, max_size=3).map(
            lambda table: "{" + ", ".join(f"{key}: {value}" for key, value in table.items()) + "}"
        )
    ),
    max_leaves=6,
)


@given(st.data())
def test_any_value_of_any_attribute_loads_or_is_a_load_error(data: st.DataObject) -> None:
    from pycompose.compose.loader.service_attributes import SERVICE

    names = sorted(SERVICE.fields or {})
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, max_size=4))
    lines = "".join(f"\n    {name}: {data.draw(VALUES)}" for name in chosen if name != "image")
    text = f"services:\n  a:\n    image: x{lines}\n"
    try:
        load(["/p/compose.yaml"], files=MemoryFiles({"/p/compose.yaml": text}))
    except LoadError as error:
        said = str(error)
    else:
        return
    assert said
