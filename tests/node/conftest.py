"""Fixtures of tests that need a whole node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from node.whole import Node, running


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A started node, for one test."""
    with running(tmp_path / "node", {"WORD": "secret word\n"}) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A started node for all tests of a module."""
    with running(tmp_path_factory.mktemp("shared") / "node", {"WORD": "secret word\n"}) as found:
        yield found
