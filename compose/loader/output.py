"""What `pycompose config` prints: the model as Docker Compose 2.40.3 writes it, byte for byte.

The JSON has top-level keys sorted, `<>&` escaped as Go does, and no `x-` keys below the top. The YAML has Go's order of
keys, keeps all `x-` keys, and leaves out what JSON shows as empty structures. In both, `$` is doubled, so that the
output is a Compose file with the same meaning; for a project loaded without interpolation it is left alone.
"""

from __future__ import annotations

import json
from typing import Any

from pycompose.compose.loader.attributes import PROJECT
from pycompose.compose.loader.kinds import Kind
from pycompose.compose.loader.project import Project
from pycompose.compose.loader.yaml_text import dump, natural_key


def render_json(project: Project, *, escape: bool = True) -> str:
    """Return the model as JSON, without a newline at the end.

    Args:
        project: the loaded project.
        escape: double every `$`; False for a project loaded without interpolation.
    """
    shown = _json_value(project.model, PROJECT)
    shown.pop("models", None)
    text = json.dumps(_sorted(shown), indent=2, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        if char in text:
            text = text.replace(char, f"\\u{ord(char):04x}")
    return text.replace("$", "$$") if escape else text


def render_yaml(project: Project, *, escape: bool = True) -> str:
    """Return the model as YAML; the arguments are `render_json`'s."""
    order = ["name", "services", "networks", "volumes", "secrets", "configs", "models"]
    model = project.model
    extra = sorted((key for key in model if key not in order), key=natural_key)
    shown = {key: model[key] for key in (*order, *extra) if key in model}
    text = dump(_yaml_value(shown, PROJECT))
    return text.replace("$", "$$") if escape else text


def _sorted(shown: dict[str, Any]) -> dict[str, Any]:
    return {key: shown[key] for key in sorted(shown, key=str.encode)}


def _json_value(value: Any, kind: Kind | None, top: bool = True) -> Any:
    if kind is None or kind.canon not in ("struct", "list", "map"):
        return _number(value) if isinstance(value, float) else _json_plain(value)
    if isinstance(value, dict):
        if kind.fields is None:
            return {key: _json_value(item, kind.values, False) for key, item in value.items()}
        names = kind.json_names
        return {
            names.get(key, key): _json_value(item, kind.fields.get(key), False)
            for key, item in value.items()
            if top or key in kind.fields
        }
    if isinstance(value, list):
        return [_json_value(item, kind.items, False) for item in value]
    return _number(value) if isinstance(value, float) else value


def _json_plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_plain(item) for item in value]
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | int:
    """Return what Python prints as Go prints this float."""
    return int(value) if value.is_integer() and abs(value) < 1e21 else value


def _yaml_value(value: Any, kind: Kind | None) -> Any:
    if kind is None:
        return _naturally(value)
    if kind.canon == "ulimit":
        return {"soft": value.get("soft", 0), "hard": value.get("hard", 0)} if isinstance(value, dict) else value
    if isinstance(value, dict) and kind.canon == "struct" and kind.fields is not None:
        result = {}
        for key, item in value.items():
            below = kind.fields.get(key)
            shown = _yaml_value(item, below)
            if below is not None and below.keep == "always" and _is_zero(shown, below):
                continue
            result[key] = shown
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
