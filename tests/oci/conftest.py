"""One bench a runtime for all cases of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from oci import bundles


@pytest.fixture(scope="module", params=list(bundles.RUNTIMES))
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[bundles.Bench]:
    """The runtime under test, then the peer."""
    with bundles.open_bench(request.param, tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
def bench(runtime: bundles.Bench) -> Iterator[bundles.Bench]:
    """It, without containers of the cases before."""
    yield runtime
    runtime.clear()
