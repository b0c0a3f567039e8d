"""Pages of a list: at most so many objects and bytes, and a token that says after which object to go on.

A page goes on after the last object's place in the order, not after a number of objects: what is created or removed
between two pages neither hides nor doubles another object.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence

from pycompose.manager.model import Object
from pycompose.proto.refusal import InvalidError

PAGE_SIZE, PAGE_BYTES = 1000, 2 * 1024 * 1024
Key = tuple[str | int, ...]


def token_of(key: Key) -> str:
    """Return the token of the page that begins after `key`."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def key_of(token: str, like: Key) -> Key:
    """Return what a token was made from; it must have the shape of `like`. Raises InvalidError."""
    try:
        key = tuple(json.loads(base64.urlsafe_b64decode(token)))
    except (ValueError, TypeError):
        key = ()
    if [type(part) for part in key] != [type(part) for part in like]:
        raise InvalidError([("page_token", "is none of ours: give the next_page_token of the answer before as it is")])
    return key


def page(items: Sequence[Object], order: Callable[[Object], Key], size: int, token: str) -> tuple[list[Object], str]:
    """Return one page and the token of the next ("": it is the last).

    Args:
        items: all objects, in any order.
        order: an object's place; no two are the same.
        size: most objects; 0: as many as a page may have.
        token: where to go on; "": at the first.

    Raises:
        InvalidError: the token is not one of ours.
    """
    placed = sorted((order(item), item.id, item) for item in items)
    if token and placed:
        after = key_of(token, placed[0][0])
        placed = [entry for entry in placed if entry[0] > after]
    found: list[Object] = []
    room = PAGE_BYTES
    for key, _, item in placed[: min(size or PAGE_SIZE, PAGE_SIZE)]:
        room -= item.ByteSize()
        found.append(item)
        if room < 0 or len(found) == min(size or PAGE_SIZE, PAGE_SIZE):
            return found, token_of(key) if len(found) < len(placed) else ""
    return found, ""
