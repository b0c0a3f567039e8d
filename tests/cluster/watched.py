"""Did watchers see each change once, in the store's order, and none too few?

What happened is what was acknowledged to writers and what any watcher saw; each watcher must have seen all of it that
lies within what it covers: after the version at which it began, up to the last version that it was told is complete.
A watcher that was cut off and went on with `after` is one watcher.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Seen:
    """One event. `version`: the store's revision of the change; `value`: of the object after it, None: removed."""

    version: int
    key: str
    value: str | None


@dataclass
class Watcher:
    """What one watcher was told. `existing`: the objects at `begun`; `complete`: everything up to there was sent."""

    name: str
    begun: int
    existing: Mapping[str, str] = field(default_factory=dict)
    events: list[Seen] = field(default_factory=list)
    complete: int = 0


def faults(watchers: Iterable[Watcher], acknowledged: Iterable[Seen] = ()) -> list[str]:
    """Return what is wrong, a sentence each; [] when all is right."""
    watchers = list(watchers)
    found = [fault for watcher in watchers for fault in _order(watcher)]
    happened: dict[tuple[int, str], Seen] = {}
    tellers: dict[tuple[int, str], str] = {}
    told = [("a writer", each) for each in acknowledged]
    told += [(watcher.name, event) for watcher in watchers for event in watcher.events]
    for teller, event in told:
        place = (event.version, event.key)
        known = happened.setdefault(place, event)
        tellers.setdefault(place, teller)
        if known != event:
            found.append(f"{teller} was told {event}, {tellers[place]} {known}")
    for watcher in watchers:
        saw = {(event.version, event.key) for event in watcher.events}
        for place, event in sorted(happened.items()):
            if watcher.begun < place[0] <= watcher.complete and place not in saw:
                found.append(f"{watcher.name} never saw {event}, which {tellers[place]} was told")
    return found


def _order(watcher: Watcher) -> list[str]:
    """Faults of one watcher alone."""
    found = []
    last = watcher.begun
    seen: set[tuple[int, str]] = set()
    there = set(watcher.existing)
    for event in watcher.events:
        place = (event.version, event.key)
        if place in seen:
            found.append(f"{watcher.name} saw {event} twice")
        elif event.version <= watcher.begun:
            found.append(f"{watcher.name} began at {watcher.begun} and saw {event}")
        elif event.version < last:
            found.append(f"{watcher.name} saw {event} after version {last}")
        if event.value is None and event.key not in there:
            found.append(f"{watcher.name} saw the removal of {event.key} at {event.version}, which was not there")
        seen.add(place)
        last = max(last, event.version)
        (there.discard if event.value is None else there.add)(event.key)
    if watcher.events and last > watcher.complete:
        found.append(f"{watcher.name} saw version {last}, and was told of no end of it")
    return found
