"""The judges of cluster histories themselves: they find planted faults, and accept what is right."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence

import pytest
from cluster.linearizable import ABSENT, REFUSED, UNKNOWN, Held, Operation, Read, Swap, check, register
from cluster.watched import Seen, Watcher, faults
from hypothesis import given, settings
from hypothesis import strategies as st


def read(called: float, returned: float, value: str, version: int) -> Operation:
    return Operation("k", Read(), Held(value, version) if value else None, called, returned)


def swap(called: float, returned: float, expected: int, value: str, answer: Hashable = None) -> Operation:
    return Operation("k", Swap(expected, value), answer, called, returned)


def good(*operations: Operation) -> bool:
    return check(operations, ABSENT, register).good


MADE = swap(0, 1, 0, "a", 10)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param([read(2, 3, "a", 10)], id="read what was written"),
        pytest.param([swap(2, 5, 10, "b", 11), read(3, 4, "a", 10), read(3, 4, "b", 11)], id="during a write, either"),
        pytest.param([swap(2, 5, 10, "b", 11), swap(2, 5, 10, "c", REFUSED)], id="one of two swaps wins"),
        pytest.param([swap(2, UNKNOWN, 10, "b"), read(3, 4, "a", 10), read(8, 9, "b", 11)], id="unknown, much later"),
        pytest.param([swap(2, UNKNOWN, 10, "b"), read(3, 4, "a", 10)], id="unknown, never"),
        pytest.param([swap(2, UNKNOWN, 10, "b"), swap(3, 4, 10, "c", REFUSED)], id="unknown, seen by a refusal"),
        pytest.param(
            [swap(2, UNKNOWN, 10, "b"), read(3, 4, "b", 11), swap(5, 6, 11, "c", 12), read(7, 8, "c", 12)],
            id="unknown, read, and built upon",
        ),
    ],
)
def test_right_histories_are_accepted(rest: list[Operation]) -> None:
    assert good(MADE, *rest)


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param([swap(2, 3, 10, "b", 11), read(4, 5, "a", 10)], id="stale read"),
        pytest.param([swap(2, 6, 10, "b", 11), read(3, 4, "b", 11), read(5, 6, "a", 10)], id="new, then old"),
        pytest.param([swap(2, 5, 10, "b", 11), swap(2, 5, 10, "c", 12)], id="lost update: both swaps succeed"),
        pytest.param([swap(2, 3, 10, "b", 11), read(4, 5, "b", 12)], id="doubled write"),
        pytest.param([swap(2, 3, 10, "b", 11), read(4, 5, "", 0)], id="acknowledged write is gone"),
        pytest.param([swap(2, 3, 10, "b", REFUSED)], id="refused without a reason"),
        pytest.param([swap(2, 3, 10, "b", REFUSED), read(4, 5, "b", 11)], id="refused, and yet in force"),
        pytest.param([read(2, 3, "z", 11)], id="a value that nobody wrote"),
        pytest.param([read(2, 3, "b", 11), swap(4, UNKNOWN, 10, "b")], id="read before it was asked for"),
        pytest.param(
            [swap(2, UNKNOWN, 10, "b"), read(3, 4, "b", 11), read(5, 6, "a", 10)], id="unknown, in force, and undone"
        ),
        pytest.param(
            [
                swap(2, UNKNOWN, 10, "b"),
                read(3, 4, "b", 11),
                swap(5, 6, 11, "c", 12),
                read(7, 8, "b", 13),
            ],
            id="unknown, in force twice",
        ),
        pytest.param([swap(2, 3, 10, "b", 9)], id="versions go back"),
    ],
)
def test_planted_faults_are_found(rest: list[Operation]) -> None:
    verdict = check([MADE, *rest], ABSENT, register)
    assert not verdict.good
    assert verdict.key == "k"
    assert verdict.placed or verdict.stuck
    assert "none of these fits" in str(verdict)


def test_a_fault_of_one_key_is_found_beside_good_ones() -> None:
    other = [
        Operation(f"good{number}", Swap(0, "x"), 5 + number, number, number + 0.5, "writer") for number in range(20)
    ]
    assert good(*other, MADE)
    assert check([*other, MADE, read(2, 3, "z", 11)], ABSENT, register).key == "k"


def by_trying_all(operations: Sequence[Operation]) -> bool:
    """The definition itself: some subset of the unanswered, some order, that fits times and model."""
    answered = [each for each in operations if each.returned != UNKNOWN]
    unanswered = [each for each in operations if each.returned == UNKNOWN]
    subsets = itertools.chain.from_iterable(
        itertools.combinations(unanswered, size) for size in range(len(unanswered) + 1)
    )
    return any(_fits(order) for chosen in subsets for order in itertools.permutations([*answered, *chosen]))


def _fits(order: Sequence[Operation]) -> bool:
    state: Held | None = ABSENT
    for number, operation in enumerate(order):
        if any(later.returned < operation.called for later in order[number + 1 :]):
            return False
        state = register(state, operation)
        if state is None:
            return False
    return True


VALUES = st.sampled_from("abc")
VERSIONS = st.integers(0, 3)
SPANS = st.tuples(st.integers(0, 12), st.integers(1, 6))
ANY = st.one_of(
    st.builds(lambda span, value, n: read(span[0], sum(span), value if n else "", n), SPANS, VALUES, VERSIONS),
    st.builds(
        lambda span, expected, value, answer: swap(
            span[0], UNKNOWN if answer == "unknown" else sum(span), expected, value, answer
        ),
        SPANS,
        VERSIONS,
        VALUES,
        st.one_of(st.integers(1, 4), st.just(REFUSED), st.just("unknown")),
    ),
)


@settings(max_examples=300)
@given(st.lists(ANY, max_size=5))
def test_the_search_agrees_with_the_definition(operations: list[Operation]) -> None:
    assert good(*operations) == by_trying_all(operations)


@st.composite
def true_histories(draw: Callable[..., int]) -> list[Operation]:
    """What clients of one real register would see: each call takes effect at a moment between its ends, if ever."""
    count = draw(st.integers(5, 60))
    calls = []
    for _ in range(count):
        called = draw(st.integers(0, 100))
        calls.append((called + draw(st.integers(0, 9)) + 0.5, called, draw(st.integers(0, 9))))
    state, version = ABSENT, 0
    history: list[Operation] = []
    known = [(-1, 0)]  # who names a version was told of it before
    for number, (moment, called, kind) in enumerate(sorted(calls)):
        returned = int(moment) + 1 + draw(st.integers(0, 5))
        if kind < 4:
            history.append(read(called, returned, state.value, state.version))
            known.append((returned, state.version))
            continue
        told = sorted(each for at, each in known if at < called)
        expected = told[-1] if kind < 8 or len(told) == 1 else told[-2]
        fits, lost = expected == state.version, draw(st.integers(0, 4)) == 0
        if fits:
            version += 1
        answer: Hashable = version if fits else REFUSED
        history.append(swap(called, UNKNOWN if lost else returned, expected, f"v{number}", None if lost else answer))
        if fits:
            state = Held(f"v{number}", version)
            known += [] if lost else [(returned, version)]
    return history


@settings(max_examples=100)
@given(true_histories())
def test_histories_of_a_real_register_are_accepted(history: list[Operation]) -> None:
    verdict = check(history, ABSENT, register)
    assert verdict.good, str(verdict)


@settings(max_examples=100)
@given(true_histories(), st.integers(0, 2))
def test_a_write_that_is_lost_after_its_answer_is_found(history: list[Operation], kind: int) -> None:
    last = max((each for each in history if isinstance(each.answered, int)), key=lambda e: e.answered, default=None)
    if last is None or any(each.returned == UNKNOWN for each in history):
        return
    assert isinstance(last.asked, Swap)
    assert isinstance(last.answered, int)
    after = max(each.returned for each in history)
    stale = [
        read(after + 1, after + 2, "", 0),
        read(after + 1, after + 2, last.asked.value, last.answered + 1),
        swap(after + 1, after + 2, last.asked.version, "again", last.answered + 1),
    ][kind]
    assert not good(*history, stale)


def test_long_histories_with_many_unknown_outcomes_are_judged_quickly() -> None:
    """Ten clients at once, a tenth of all writes without an answer: no search without end."""
    history, state = [], ABSENT
    for number in range(3000):
        called, returned = number - 5.0, number + 5.0
        value = f"v{number}"
        if number % 3:
            history.append(read(called, returned, state.value, state.version))
        elif number % 10 == 0:
            history.append(swap(called, UNKNOWN, state.version, value))
            if number % 20:
                state = Held(value, number + 1)
        else:
            history.append(swap(called, returned, state.version, value, number + 1))
            state = Held(value, number + 1)
    assert good(*history)
    assert not good(*history, read(3100, 3101, "v0", 1))


EVENTS = [Seen(11, "a", "1"), Seen(12, "b", "1"), Seen(12, "c", "1"), Seen(14, "a", "2"), Seen(15, "b", None)]


def watcher(events: Sequence[Seen], begun: int = 10, complete: int = 20) -> Watcher:
    return Watcher("w", begun, {}, list(events), complete)


def test_watchers_that_saw_all_are_right() -> None:
    late = Watcher("late", 12, {"a": "1", "b": "1"}, EVENTS[3:], 16)
    early = Watcher("early", 0, {}, EVENTS[:3], 12)
    assert faults([watcher(EVENTS), late, early], EVENTS) == []


@pytest.mark.parametrize(
    ("events", "told"),
    [
        pytest.param(EVENTS[:1] + EVENTS[2:], "never saw", id="lost"),
        pytest.param([*EVENTS[:2], EVENTS[1], *EVENTS[2:]], "twice", id="doubled"),
        pytest.param([EVENTS[3], *EVENTS[:3], EVENTS[4]], "after version", id="out of order"),
        pytest.param([*EVENTS[:3], Seen(14, "a", "other"), EVENTS[4]], "was told", id="another value"),
        pytest.param([Seen(9, "a", "0"), *EVENTS], "began at", id="before its beginning"),
        pytest.param([*EVENTS, Seen(16, "z", None)], "was not there", id="removed and never there"),
        pytest.param([*EVENTS, Seen(21, "a", "3")], "no end of it", id="unfinished"),
    ],
)
def test_what_a_watcher_saw_wrongly_is_found(events: list[Seen], told: str) -> None:
    assert any(told in fault for fault in faults([watcher(events)], EVENTS))


@given(st.data())
def test_one_event_left_out_or_moved_is_always_found(data: st.DataObject) -> None:
    versions = data.draw(st.lists(st.integers(1, 50), min_size=2, max_size=20, unique=True).map(sorted))
    events = [Seen(version, f"k{version % 3}", str(version)) for version in versions]
    assert faults([Watcher("w", 0, {}, events, 50)], events) == []
    place = data.draw(st.integers(0, len(events) - 2))
    without = events[:place] + events[place + 1 :]
    assert faults([Watcher("w", 0, {}, without, 50)], events)
    assert faults([Watcher("w", 0, {}, [*without, events[place]], 50)], events)
