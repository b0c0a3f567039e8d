"""Ranges of ids, and mappings: pure."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycompose.worker.agent import ids
from pycompose.worker.agent.ids import DEFAULT, SIZE, Range
from pycompose.worker.agent.oci_config import SpecError
from pycompose.worker.runtime import idmap
from pycompose.worker.runtime.errors import ConfigError

FIRST, COUNT = DEFAULT


def test_without_an_account_the_default_range_is_cut_up() -> None:
    found = ids.blocks("")
    assert found[:2] == [FIRST, FIRST + SIZE]
    assert len(found) == COUNT // SIZE


def test_others_keep_theirs() -> None:
    found = ids.blocks(f"me:100000:65536\nyou:{FIRST + SIZE - 1}:2\n# a comment\nbroken:1\n")
    assert found[0] == FIRST + 2 * SIZE


def test_the_account_has_what_the_tables_say() -> None:
    table = (
        f"other:5:{SIZE}\npycompose:1000000:{2 * SIZE + 5}\npycompose:9000000:{SIZE - 1}\npycompose:7000000:{SIZE}\n"
    )
    assert ids.blocks(table) == [1000000, 1000000 + SIZE, 7000000]


def test_a_range_is_given_once() -> None:
    uids, gids = f"pycompose:1000000:{2 * SIZE}", f"pycompose:5000000:{3 * SIZE}"
    first = ids.free(uids, gids, [], "a")
    second = ids.free(uids, gids, [first], "b")
    assert first == Range(1000000, 5000000, "a")
    assert second == Range(1000000 + SIZE, 5000000 + SIZE, "b")
    with pytest.raises(SpecError, match="/etc/subuid"):
        ids.free(uids, gids, [first, second], "c")
    assert ids.free(uids, gids, [second], "d").uid == first.uid


@given(st.lists(st.tuples(st.integers(0, 1 << 31), st.integers(1, 1 << 28)), max_size=5), st.integers(1, 12))
def test_ranges_never_overlap(others: list[tuple[int, int]], count: int) -> None:
    table = "".join(f"user{number}:{first}:{many}\n" for number, (first, many) in enumerate(others))
    taken: list[Range] = []
    for number in range(count):
        try:
            taken.append(ids.free(table, table, taken, str(number)))
        except SpecError:
            break
    uids = sorted(one.uid for one in taken)
    assert all(before + SIZE <= after for before, after in pairwise(uids))
    assert all(uid + SIZE <= first or first + many <= uid for uid in uids for first, many in others)


def test_ids_beyond_the_range_are_refused() -> None:
    assert Range(100, 200, "a").outside(5, 6) == (105, 206)
    with pytest.raises(SpecError, match="below 65536"):
        Range(100, 200, "a").outside(SIZE, 0)


def test_mappings() -> None:
    found = [*idmap.shift(1000, 10), {"containerID": 50, "hostID": 5000, "size": 1}]
    assert idmap.lines(found) == b"0 1000 10\n50 5000 1\n"
    assert [idmap.outside(found, number) for number in (0, 9, 50)] == [1000, 1009, 5000]
    with pytest.raises(ConfigError, match="id 10 is not mapped"):
        idmap.outside(found, 10)
    assert idmap.with_root(found)[-1] == {"containerID": 51, "hostID": 0, "size": 1}
    assert idmap.with_root(idmap.shift(0, 5)) == idmap.shift(0, 5)


@pytest.mark.parametrize(
    ("mappings", "words"),
    [
        ([(0, 100, 0)], "maps nothing"),
        ([(0, 100, 10), (9, 500, 1)], "containerID range"),
        ([(0, 100, 10), (10, 109, 1)], "hostID range"),
        ([(0, (1 << 32) - 2, 2)], "go beyond"),
        ([(number, number, 1) for number in range(341)], "at most 340"),
    ],
)
def test_mappings_that_the_kernel_would_refuse(mappings: list[tuple[int, int, int]], words: str) -> None:
    entries = [{"containerID": inner, "hostID": outer, "size": size} for inner, outer, size in mappings]
    with pytest.raises(ConfigError, match=words):
        idmap.check(entries, "linux.uidMappings")
    idmap.check(idmap.shift(0, (1 << 32) - 1), "linux.uidMappings")
