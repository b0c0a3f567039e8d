"""`$VAR` and `${VAR…}` in values: the forms, their precedence, and the attributes that are numbers afterwards.

    $VAR ${VAR}        the value; empty, with a warning, when unset
    ${VAR:-default}    default when unset or empty        ${VAR-default}   when unset
    ${VAR:?message}    an error when unset or empty       ${VAR?message}   when unset
    ${VAR:+other}      other when set and not empty       ${VAR+other}     when set
    $$                 one `$`

Defaults, messages and replacements may hold further forms. A value is never looked at twice: what a variable holds is
text, whatever it looks like. Keys are not interpolated. Which operator counts in a form with several, and where a form
ends in a line with several, follows compose-go's template package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.tree import Made, Map, Mark, Path, Seq
from pycompose.compose.loader.units import parse_float

MAX_NESTING = 100
"""How deep `${A:-${B:-…}}` may go."""
MAX_TEXT = 8 * 1024 * 1024
"""Characters that the variables of one file may make; variables made of variables grow without bound else."""

FORM = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[_a-zA-Z][_a-zA-Z0-9]*)"
    r"|\{(?:(?P<braced>[_a-zA-Z][_a-zA-Z0-9]*(?::?[-+?](?:.*))?)\}|(?P<invalid>)))"
)
_START = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<named>[_a-zA-Z][_a-zA-Z0-9]*)"
    r"|\{(?:(?P<braced>[_a-zA-Z][_a-zA-Z0-9]*)(?P<operator>:?[-+?]|(?=\}))|(?P<invalid>)))"
)

Lookup = Callable[[str], "str | None"]
Warn = Callable[[str], None]


class TemplateError(Exception):
    """A form that cannot be substituted; `remedy` says what would be right."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def substitute(template: str, lookup: Lookup, warn: Warn = lambda _: None, depth: int = 0) -> str:
    """Replace all forms in `template`.

    Args:
        template: the text as written.
        lookup: returns a variable's value, None when it is unset.
        warn: is told about variables that are unset and have no default.
        depth: how deep this text lies in other forms.

    Raises:
        TemplateError: a form is malformed, nested too deep, or requires a variable that is missing.
    """
    if depth > MAX_NESTING:
        raise TemplateError(f"variables are nested more than {MAX_NESTING} deep")
    out: list[str] = []
    position = size = 0
    line_end = last_brace = -1
    while match := _START.search(template, position):
        start, end = match.span()
        out.append(template[position:start])
        position = end
        if match["escaped"]:
            value = "$"
        elif match["named"]:
            value = _value(match["named"], lookup, warn)
        elif match["invalid"] is not None:
            raise _invalid()
        elif not match["operator"]:
            position += 1
            value = _value(match["braced"], lookup, warn)
        else:
            if end > line_end:
                found = template.find("\n", end)
                line_end = len(template) if found < 0 else found
                last_brace = template.rfind("}", end, line_end)
            if last_brace < end:
                raise _invalid()
            closing = closing_brace(template, start, last_brace + 1)
            position = (closing if closing >= 0 else last_brace) + 1
            argument = substitute(template[end : position - 1], lookup, warn, depth + 1)
            value = _conditional(match["braced"], match["operator"], argument, lookup)
        size += len(value)
        if size > MAX_TEXT:
            raise TemplateError(f"variables make more than {MAX_TEXT >> 20} MB of text", "use shorter values")
        out.append(value)
    out.append(template[position:])
    return "".join(out)


def _invalid() -> TemplateError:
    return TemplateError("invalid interpolation format", "to write a $ itself, write $$")


def _conditional(name: str, operator: str, argument: str, lookup: Lookup) -> str:
    """Choose between a variable's value and what stands after the operator."""
    value = lookup(name)
    present = value is not None and (value != "" or len(operator) == 1)
    if operator[-1] == "-":
        return value or "" if present else argument
    if operator[-1] == "+":
        return argument if present else value or ""
    if not present:
        reason = f": {argument}" if argument else ""
        remedy = f"set {name} in the environment or in .env"
        raise TemplateError(f"required variable {name} is missing a value{reason}", remedy)
    return value or ""


def _value(name: str, lookup: Lookup, warn: Warn) -> str:
    value = lookup(name)
    if value is None:
        warn(f'The "{name}" variable is not set. Defaulting to a blank string.')
        return ""
    return value


def closing_brace(text: str, start: int = 0, end: int | None = None) -> int:
    """Return the index of the brace that closes the first one from `start` on, -1 if none does before `end`."""
    depth, index = 0, start
    end = len(text) if end is None else end
    while index < end:
        if text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
        if text[index] == "{":
            depth += 1
            index += 1
        index += 1
    return -1


def _boolean(text: str) -> bool:
    match text.lower():
        case "true" | "y" | "yes" | "on":
            return True
        case "false" | "n" | "no" | "off":
            return False
    raise ValueError(f"{text!r} is not a boolean")


def _int(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]{1,19}", text):
        raise ValueError(f"{text!r} is not an integer")
    return int(text)


Cast = Callable[[str], "bool | int | float"]
Casts = dict[str, "Cast | Casts"]

_REPLICA_CASTS: Casts = {"parallelism": _int, "max_failure_ratio": parse_float}
_RESOURCE: Casts = {"*": {"external": _boolean}}
CASTS: Casts = {
    "services": {
        "*": {
            **dict.fromkeys(("cpu_count", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime"), _int),
            **dict.fromkeys(("cpu_shares", "oom_score_adj", "pids_limit", "scale"), _int),
            **dict.fromkeys(("init", "oom_kill_disable", "privileged", "read_only", "stdin_open", "tty"), _boolean),
            "cpu_percent": parse_float,
            "cpus": parse_float,
            "deploy": {
                "replicas": _int,
                "update_config": _REPLICA_CASTS,
                "rollback_config": _REPLICA_CASTS,
                "restart_policy": {"max_attempts": _int},
                "placement": {"max_replicas_per_node": _int},
            },
            "healthcheck": {"retries": _int, "disable": _boolean},
            "ports": {"[]": {"target": _int}},
            "ulimits": {"*": {"": _int, "hard": _int, "soft": _int}},
            "volumes": {"[]": {"read_only": _boolean, "volume": {"nocopy": _boolean}}},
        }
    },
    "networks": {
        "*": dict.fromkeys(("external", "internal", "attachable", "enable_ipv4", "enable_ipv6"), _boolean),
    },
    "volumes": _RESOURCE,
    "secrets": _RESOURCE,
    "configs": _RESOURCE,
}
"""Attributes whose strings are numbers or booleans; `*` is any key, `[]` any item, an empty key the value itself."""


def interpolate(tree: Any, variables: Mapping[str, str], warn: Warn) -> None:
    """Replace all forms in the values of `tree`, in place, and cast the attributes in `CASTS`.

    Raises:
        LoadError: with every value that cannot be substituted or cast.
    """
    walk = _Walk(variables, warn)
    walk.container(tree, CASTS, ())
    if walk.problems:
        raise LoadError(walk.problems)


class _Walk:
    def __init__(self, variables: Mapping[str, str], warn: Warn) -> None:
        self.variables = variables
        self.warn = warn
        self.problems: list[Problem] = []
        self.names: list[str] = []
        self.made: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.size = 0

    def lookup(self, name: str) -> str | None:
        self.names.append(name)
        return self.variables.get(name)

    def substituted(self, template: str) -> tuple[str, tuple[str, ...]]:
        """Return the text of a template and the variables in it; the same template is substituted once."""
        found = self.made.get(template)
        if found is None:
            self.names = []
            text = substitute(template, self.lookup, self.warn)
            found = self.made[template] = (text, tuple(dict.fromkeys(self.names)))
        self.size += len(found[0]) - len(template)
        if self.size > MAX_TEXT:
            raise TemplateError(f"variables make more than {MAX_TEXT >> 20} MB of text", "use shorter values")
        return found

    def container(self, tree: Any, casts: Casts | Cast | None, path: Path) -> None:
        entries: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)
        table = casts if isinstance(casts, dict) else {}
        item_casts = table.get("[]") if isinstance(tree, list) else None
        for key, value in entries:
            kind = type(value)
            if kind is str:
                below = item_casts or table.get(key) or table.get("*") if table else None
                if below is None and "$" not in value:
                    continue
                cast = below.get("") if isinstance(below, dict) else below
                tree[key] = self.text(value, cast, tree, key, path)
            elif kind is Map or kind is Seq:
                below = (item_casts or table.get(key) or table.get("*")) if table else None
                self.container(value, below, (*path, key))

    def text(self, value: str, cast: Any, tree: Any, key: Any, path: Path) -> Any:
        mark: Mark | None = tree.marks.get(key) if isinstance(tree, Map) else tree.marks[key]
        try:
            text = value
            if "$" in value:
                text, names = self.substituted(value)
                if names and mark:
                    mark.source.made[mark.line, mark.column] = Made(value, names, self.variables)
            return cast(text) if cast is not None else text
        except TemplateError as error:
            message, remedy = str(error), error.remedy
            if message.startswith("invalid interpolation"):
                message += f" in {value!r}"
        except ValueError as error:
            message, remedy = str(error), ""
        self.problems.append(Problem.at(mark, (*path, key), message, remedy))
        return value
