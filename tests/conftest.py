"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update."""
    parser.addoption("--update", action="store_true", help="write tests/transcripts/*.txt anew")


@pytest.fixture(scope="session")
def many() -> Callable[[int], int]:
    """How often: `make soak` does the whole count, `make test` a twentieth."""
    full = os.environ.get("PYCOMPOSE_SOAK") == "full"
    return lambda count: count if full else max(1, count // 20)
