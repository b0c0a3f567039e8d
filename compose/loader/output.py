"""What `pycompose config` prints: the model as Docker Compose 2.40.3 writes it, byte for byte.

The JSON has top-level keys sorted, `<>&` escaped as Go does, and no `x-` keys below the top. The YAML has Go's order of
keys, keeps all `x-` keys, and leaves out what JSON shows as empty structures. In both, `$` is doubled, so that the
output is a Compose file with the same meaning; for a project loaded without interpolation it is left alone. A `Model`
is printed with all its keys sorted and its values as they are.
"""

from __future__ import annotations

from typing import Any

from pycompose.compose.loader.attributes import PROJECT
from pycompose.compose.loader.errors import LoadError, Problem
from pycompose.compose.loader.json_text import dump_json
from pycompose.compose.loader.kinds import Kind
from pycompose.compose.loader.merge import KEYS
from pycompose.compose.loader.project import Model, Project
from pycompose.compose.loader.yaml_text import dump, natural_key


def render_json(project: Project, *, escape: bool = True) -> str:
    """Return the model as JSON, without a newline at the end.

    Args:
        project: the loaded project.
        escape: double every `$`; False for a project loaded without interpolation.

    Raises:
        LoadError: an `x-` key holds a number that JSON does not have.
    """
    shown = json_value(project.model, PROJECT, top=True)
    shown.pop("models", None)
    text = _json_text(_sorted(shown))
    return text.replace("$", "$$") if escape else text


def render_yaml(project: Project, *, escape: bool = True) -> str:
    """Return the model as YAML; the arguments are `render_json`'s."""
    order = ["name", "services", "networks", "volumes", "secrets", "configs", "models"]
    model = project.model
    extra = sorted((key for key in model if key not in order), key=natural_key)
    shown = {key: model[key] for key in (*order, *extra) if key in model}
    text = dump(_yaml_value(shown, PROJECT))
    return text.replace("$", "$$") if escape else text


def render_model(model: Model, form: str) -> str:
    """Return a model that was not interpolated, as "yaml" or "json".

    Raises:
        LoadError: it holds a number that JSON does not have.
    """
    return dump(_naturally(model.tree)) if form == "yaml" else _json_text(_json_model(model.tree, model.normalised))


def _json_model(value: Any, normalised: bool, table: Any = KEYS, last: str = "") -> Any:
    """Return a tree as Go shows it: a list that is empty is null there, but for those whose entries are unique."""
    if isinstance(value, dict):
        return {
            key: _json_model(value[key], normalised, _below(table, key), key) for key in sorted(value, key=str.encode)
        }
    if isinstance(value, list):
        if not value and (not callable(table) or (normalised and last in ("args", "environment"))):
            return None
        return [_json_model(item, normalised, None) for item in value]
    return value


def _below(table: Any, key: str) -> Any:
    return table.get(key) or table.get("*") if isinstance(table, dict) else None


def _json_text(shown: Any) -> str:
    try:
        return dump_json(shown, "  ")
    except ValueError as error:
        raise LoadError(Problem(str(error))) from None


def _sorted(shown: dict[str, Any]) -> dict[str, Any]:
    return {key: shown[key] for key in sorted(shown, key=str.encode)}


def json_value(value: Any, kind: Kind | None, top: bool = False) -> Any:
    """Return a value as JSON shows it; only at the `top` are `x-` keys shown."""
    if kind is None:
        return _json_extension(value)
    if kind.canon not in ("struct", "list", "map"):
        return value
    if isinstance(value, dict):
        if kind.fields is None:
            return {key: json_value(item, kind.values) for key, item in value.items()}
        names = kind.json_names
        return {
            names.get(key, key): json_value(item, kind.fields.get(key))
            for key, item in value.items()
            if ((below := kind.fields.get(key)) is not None and below.printed) or (top and below is None)
        }
    if isinstance(value, list):
        return [json_value(item, kind.items) for item in value]
    return value


def _json_extension(value: Any) -> Any:
    """Sort free keys at every depth; a list without items is null there, as for Go."""
    if isinstance(value, dict):
        return {key: _json_extension(value[key]) for key in sorted(value, key=str.encode)}
    if isinstance(value, list):
        return [_json_extension(item) for item in value] or None
    return value


def _yaml_value(value: Any, kind: Kind | None) -> Any:
    if kind is None:
        return _naturally(value)
    if kind.canon == "ulimit":
        return {"soft": value.get("soft", 0), "hard": value.get("hard", 0)} if isinstance(value, dict) else value
    if isinstance(value, dict) and kind.canon == "struct" and kind.fields is not None:
        result = {}
        for key, item in value.items():
            below = kind.fields.get(key)
            if below is None:
                continue
            shown = _yaml_value(item, below)
            if not below.printed or (below.keep == "always" and _is_zero(shown, below)):
                continue
            result[key] = shown
        for key in sorted((key for key in value if key not in kind.fields), key=natural_key):
            result[key] = _naturally(value[key])
        return result
    if isinstance(value, dict) and kind.canon == "map":
        return {key: _yaml_value(value[key], kind.values) for key in sorted(value, key=natural_key)}
    if isinstance(value, list) and kind.canon == "list":
        return [_yaml_value(item, kind.items) for item in value]
    return _naturally(value)


def _naturally(value: Any) -> Any:
    """Sort free keys in go-yaml's order, at every depth."""
    if isinstance(value, dict):
        return {key: _naturally(value[key]) for key in sorted(value, key=natural_key)}
    return [_naturally(item) for item in value] if isinstance(value, list) else value


def _is_zero(value: Any, kind: Kind) -> bool:
    """Tell whether YAML leaves out a value that JSON always shows."""
    return (kind.canon == "struct" and not value) or (kind.canon == "command" and value is None)
