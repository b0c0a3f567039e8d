"""From one store into another that is empty: keys and values, without history and without what hangs on a lease."""

from __future__ import annotations

from collections.abc import Callable

from pycompose.manager.store.interface import Compare, KeyValue, Operation, Put, Store, StoreError

#: Keys of one transaction, where the target takes so many.
KEYS = 200
BYTES = 512 * 1024


async def copy(source: Store, target: Store, value: Callable[[KeyValue], bytes] = lambda item: item.value) -> int:
    """Copy every key; the source must not be written meanwhile.

    Args:
        source, target: the target has no key of the source's.
        value: gives what the target is to have of a key.

    Returns:
        How many keys were copied.

    Raises:
        StoreError: the target was not empty, or does not have afterwards what it was given.
    """
    items = {item.key: value(item) for item in (await source.range("/")).items if not item.lease}
    part: list[Operation] = []
    size = 0
    for key, data in items.items():
        part.append(Put(key, data))
        size += len(data)
        if len(part) == min(KEYS, target.max_operations) or size > BYTES:
            await _put(target, part)
            part, size = [], 0
    await _put(target, part)
    found = {item.key: item.value for item in (await target.range("/")).items}
    if found != items:
        raise StoreError(f"the copy differs: {len(found)} keys, {len(items)} were copied; nothing was changed")
    return len(items)


async def _put(target: Store, part: list[Operation]) -> None:
    if not part:
        return
    result = await target.transact([Compare(operation.key, 0) for operation in part], part)
    if not result.succeeded:
        raise StoreError(f"the store to copy to is not empty: it has {', '.join(result.failed[:3])}")
