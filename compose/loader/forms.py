"""Forms that many attributes share: texts, numbers, sizes, lists that may be maps."""

from __future__ import annotations

from pycompose.compose.loader.kinds import (
    BOOLEAN,
    INTEGER,
    LIST,
    MAPPING,
    NULL,
    NUMBER,
    STRING,
    kind,
    list_of,
    map_of,
    struct,
)

ANY = kind(STRING, NUMBER, INTEGER, BOOLEAN, NULL, MAPPING, LIST, canon="any")
TEXT = kind(STRING, canon="text")
BOOL = kind(BOOLEAN, STRING, canon="bool")
MAYBE_BOOL = BOOL.with_(keep="zero")
INT = kind(INTEGER, STRING, canon="int")
COUNT = INT.with_(canon="uint")
NUM = kind(NUMBER, STRING, canon="int")
FLOAT = kind(NUMBER, STRING, canon="float")
BYTES = kind(NUMBER, STRING, canon="bytes")
BYTES_INT = kind(INTEGER, STRING, canon="bytes")
DURATION = kind(STRING, canon="duration")
MAYBE_DURATION = DURATION.with_(keep="zero")
TEXTS = list_of(TEXT)
TEXT_SET = list_of(TEXT, unique=True)
TEXT_OR_SET = list_of(TEXT, STRING, unique=True)
TEXT_OR_LIST = list_of(TEXT, STRING)
_SCALAR = kind(STRING, NUMBER, BOOLEAN, NULL)
_LIST_OR_MAP = {"items": TEXT, "unique": True, "values": _SCALAR, "key_pattern": ".+"}
ENVIRONMENT = kind(LIST, MAPPING, canon="environment", **_LIST_OR_MAP)
LABELS = kind(LIST, MAPPING, canon="labels", **_LIST_OR_MAP)
PAIRS = kind(LIST, MAPPING, canon="pairs", **_LIST_OR_MAP)
OPTIONS = map_of(kind(STRING, NUMBER, canon="text"), canon="options")
LOG_OPTIONS = map_of(kind(STRING, NUMBER, NULL, canon="text"), canon="options")
STRINGS = map_of(TEXT, canon="options")
COMMAND = list_of(TEXT, STRING, NULL, canon="command", keep="always")
HOSTS = kind(
    LIST, MAPPING, items=TEXT, unique=True, canon="hosts", values=list_of(TEXT, STRING), key_pattern=".+", keep="zero"
)
NAME = r"\A[a-zA-Z0-9._-]+\Z"
FILE_MODE = kind(NUMBER, STRING, canon="mode", keep="zero")
ULIMITS = map_of(
    struct(
        {"soft": INT, "hard": INT},
        INTEGER,
        STRING,
        required=("soft", "hard"),
        canon="ulimit",
        keep="zero",
    ),
    key_pattern=r"\A[a-z]+\Z",
    open_keys=True,
)
