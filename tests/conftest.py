"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import settings

# The same examples each time, so that a change fails for what it changed; `make soak` looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
if os.environ.get("PYCOMPOSE_SOAK") != "full":
    settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update."""
    parser.addoption("--update", action="store_true", help="write tests/transcripts/*.txt anew")


@pytest.fixture(scope="session")
def many() -> Callable[[int], int]:
    """How often: `make soak` does the whole count, `make test` a twentieth."""
    full = os.environ.get("PYCOMPOSE_SOAK") == "full"
    return lambda count: count if full else max(1, count // 20)
