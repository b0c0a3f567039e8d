"""Is a history of concurrent operations one that a single copy of the data could have answered?

Wing and Gong's search with Lowe's memory of what was tried ("Testing and Verifying Concurrent Objects", 1993; "Testing
for Linearizability", 2017; both as in porcupine): choose among the operations that had begun before the first open one
ended, apply it to the state, go on; a set of applied operations with a state that was seen before leads nowhere new.
Keys are independent (linearizability is local, Herlihy and Wing 1990), so each is searched alone.

An operation whose outcome nobody knows (the connection broke) may take effect at any time after its call, or never. It
is tried only where it changes something, and need not be applied at the end.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

State = TypeVar("State", bound=Hashable)
UNKNOWN = math.inf


@dataclass(frozen=True, slots=True)
class Operation:
    """One call as its client saw it.

    `asked` and `answered` are the model's. `called`, `returned`: seconds of one clock for all clients; `returned` is
    UNKNOWN when no answer came. `who` is for people.
    """

    key: str
    asked: Hashable
    answered: Hashable
    called: float
    returned: float
    who: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`placed`: the longest order found; `stuck`: what could come next, and none of it fits. Both of the bad key."""

    good: bool
    key: str = ""
    placed: tuple[Operation, ...] = ()
    stuck: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        if self.good:
            return "linearizable"
        lines = [f"{self.key}: after these, in this order:", *(f"  {_line(each)}" for each in self.placed[-12:])]
        return "\n".join([*lines, "none of these fits:", *(f"  {_line(each)}" for each in self.stuck)])


def _line(operation: Operation) -> str:
    times = f"{operation.called:.4f}–{operation.returned:.4f}"
    return f"{times} {operation.who} {operation.asked} -> {operation.answered}"


#: The state after an operation; None: with this state the operation would have been answered in another way.
Step = Callable[[State, Operation], "State | None"]


def check(history: Iterable[Operation], initial: State, step: Step[State]) -> Verdict:
    """Return whether each key's operations have an order that fits their times and the model's answers.

    Args:
        history: in any order. Reads without an answer say nothing: leave them out.
        initial: of every key.
        step: the model; must be pure. For an operation without an answer it returns the state after it took effect.
    """
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for key in sorted(by_key):
        verdict = _Search(key, by_key[key], step).run(initial)
        if not verdict.good:
            return verdict
    return Verdict(True)


@dataclass(frozen=True, slots=True)
class _Point(Generic[State]):
    """How far a search has come: `first` answered operations and those in `bits` (from there on) are applied."""

    first: int
    bits: int
    unanswered: frozenset[int]
    state: State


class _Search(Generic[State]):
    """The search of one key."""

    def __init__(self, key: str, operations: Sequence[Operation], step: Step[State]) -> None:
        ordered = sorted(operations, key=lambda each: each.called)
        self._key, self._step = key, step
        self._answered = [each for each in ordered if each.returned != UNKNOWN]
        self._unanswered = [each for each in ordered if each.returned == UNKNOWN]

    def run(self, initial: State) -> Verdict:
        start = _Point(0, 0, frozenset(), initial)
        seen, path = {start}, [(start, self._next(start))]
        order: list[Operation] = []
        best: tuple[list[Operation], _Point[State]] = ([], start)
        while path:
            point, rest = path[-1]
            if point.first == len(self._answered):
                return Verdict(True)
            if not rest:
                path.pop()
                order = order[:-1]
                continue
            operation, following = rest.pop()
            if following in seen:
                continue
            seen.add(following)
            path.append((following, self._next(following)))
            order = [*order, operation]
            if len(order) > len(best[0]):
                best = (order, following)
        return Verdict(False, self._key, tuple(best[0]), tuple(each for _, each in self._open(best[1])))

    def _open(self, point: _Point[State]) -> list[tuple[int, Operation]]:
        """Answered operations that may come next, with their places after the point's first."""
        found = []
        end = math.inf
        for place in range(len(self._answered) - point.first):
            operation = self._answered[point.first + place]
            if operation.called > end:
                break
            if not point.bits >> place & 1:
                found.append((place, operation))
                end = min(end, operation.returned)
        return found

    def _next(self, point: _Point[State]) -> list[tuple[Operation, _Point[State]]]:
        """What may come next; the last is tried first: answered ones in the order of their calls.

        What fits and leaves the state as it is comes now: whatever order fits, fits with it moved here.
        """
        found = []
        candidates = self._open(point)
        end = min((operation.returned for _, operation in candidates), default=math.inf)
        for number, operation in enumerate(self._unanswered):
            if operation.called > end:
                break
            if number in point.unanswered:
                continue
            state = self._step(point.state, operation)
            if state is not None and state != point.state:
                applied = point.unanswered | {number}
                found.append((operation, _Point(point.first, point.bits, applied, state)))
        for place, operation in reversed(candidates):
            state = self._step(point.state, operation)
            if state is not None:
                first, bits = point.first, point.bits | 1 << place
                while bits & 1:
                    first, bits = first + 1, bits >> 1
                following = _Point(first, bits, point.unanswered, state)
                if state == point.state:
                    return [(operation, following)]
                found.append((operation, following))
        return found


# The control API's objects as registers.


@dataclass(frozen=True, slots=True)
class Read:
    """Asks for an object; the answer is a `Held`, or None when there is none."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Replaces an object's value if its version is `version` (0: creates it).

    The answer is the new version, or REFUSED: the object has another version.
    """

    version: int
    value: str


@dataclass(frozen=True, slots=True)
class Held:
    """An object's value and the store's revision of its last change; 0: nobody was told which."""

    value: str
    version: int


REFUSED = "refused"


def register(state: Held | None, operation: Operation) -> Held | None:
    """The model of one object: read, and compare-and-swap by version. The state ABSENT: there is none.

    A write without an answer got a version that its first reader learns; a swap names a version that somebody had
    read, so no swap can fit before that.
    """
    assert state is not None
    match operation.asked:
        case Read():
            answer = operation.answered
            if answer is None:
                return state if state == ABSENT else None
            assert isinstance(answer, Held)
            fits = state.value == answer.value and state.version in (answer.version, 0) and state != ABSENT
            return answer if fits else None
        case Swap(version, value):
            matches = state == ABSENT if version == 0 else state.version == version
            if operation.returned == UNKNOWN:
                return Held(value, 0) if matches else state
            if operation.answered == REFUSED:
                return None if matches else state
            assert isinstance(operation.answered, int)
            return Held(value, operation.answered) if matches and operation.answered > state.version else None
    raise AssertionError(operation)


ABSENT = Held("", 0)
