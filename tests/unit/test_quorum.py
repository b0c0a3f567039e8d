"""What every command says when the managers are no majority, and that calls under way hear it too."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from pycompose.manager.members import fellows
from pycompose.manager.members.fellows import Fellow
from pycompose.manager.members.quorum import Quorum, QuorumCheck, sentence
from pycompose.manager.store import StoreUnavailableError
from pycompose.proto.refusal import UnreachableError

THREE = [Fellow(name, f"host-{name}", f"{name}:7423") for name in ("a", "b", "c")]


@pytest.mark.parametrize(
    ("answering", "told"),
    [
        (
            "a",
            "the cluster has lost its majority: 1 of 3 managers answer (host-a; not host-b, host-c); nothing that "
            "runs is stopped; start them again, or pycompose cluster recover",
        ),
        (
            "",
            "the cluster has lost its majority: 0 of 3 managers answer (not host-a, host-b, host-c); nothing that "
            "runs is stopped; start them again, or pycompose cluster recover",
        ),
        (
            "bc",
            "this manager's own etcd does not answer, and 2 of 3 managers do (host-b, host-c); nothing that runs is "
            "stopped; ask one of them, and see pycompose node logs here",
        ),
        (
            "ab",
            "2 of 3 managers answer (host-a, host-b), and they have no leader yet; nothing that runs is stopped; try "
            "again",
        ),
    ],
)
def test_the_sentence(answering: str, told: str) -> None:
    assert sentence("a", {each: each.name in answering for each in THREE}) == told


def test_the_sentence_of_a_manager_alone() -> None:
    assert "its" not in sentence("a", {THREE[0]: False}).partition(";")[0]
    assert "is just starting" in sentence("a", {THREE[0]: True})


def test_half_is_no_majority() -> None:
    assert "lost its majority: 1 of 2" in sentence("a", {THREE[0]: True, THREE[1]: False})


def test_fellows_are_written_down(tmp_path: Path) -> None:
    assert fellows.load(tmp_path) == []
    fellows.save(tmp_path, THREE[::-1])
    assert fellows.load(tmp_path) == THREE
    (tmp_path / fellows.FILE).write_text("torn")
    assert fellows.load(tmp_path) == []


class Store:
    """Answers or not."""

    there = True

    async def revision(self) -> None:
        if not self.there:
            raise StoreUnavailableError("no answer")


class Details:
    method = "/pycompose.v1.ControlService/ListTasks"


async def checked(check: QuorumCheck, call: Any, method: str = Details.method) -> Any:
    """The call with the check before it."""
    details = Details()
    details.method = method

    async def continuation(_: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(call)

    return (await check.intercept_service(continuation, details)).unary_unary  # type: ignore[arg-type]


async def test_calls_are_refused_with_the_sentence_and_served_again() -> None:
    store = Store()

    async def probe(fellow: Fellow) -> bool:
        return fellow.name == "a"

    quorum = Quorum("a", store, lambda: THREE, probe)  # type: ignore[arg-type]
    check = QuorumCheck(quorum)
    hanging = asyncio.Event()

    async def hangs(request: Any, context: Any) -> str:
        hanging.set()
        await asyncio.sleep(3600)
        return "never"

    async def answers(request: Any, context: Any) -> str:
        return "here"

    loop = asyncio.create_task(quorum.run())
    try:
        assert await (await checked(check, answers))(None, None) == "here"
        waiting = asyncio.create_task((await checked(check, hangs))(None, None))
        await hanging.wait()
        store.there = False
        with pytest.raises(UnreachableError, match="lost its majority: 1 of 3"):
            await waiting
        with pytest.raises(UnreachableError, match="lost its majority: 1 of 3"):
            await (await checked(check, answers))(None, None)
        assert await (await checked(check, answers, "/grpc.health.v1.Health/Check"))(None, None) == "here"
        store.there = True
        while quorum.missing.is_set():
            await asyncio.sleep(0.01)
        assert await (await checked(check, answers))(None, None) == "here"
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)


async def test_a_manager_whose_own_etcd_is_gone_ends_its_life() -> None:
    store = Store()
    store.there = False

    async def probe(fellow: Fellow) -> bool:
        return fellow.name != "a"

    quorum = Quorum("a", store, lambda: THREE, probe)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailableError, match="own etcd"):
        await quorum.run()


async def test_a_call_that_fails_for_the_store_is_told_why() -> None:
    store = Store()
    store.there = False

    async def probe(fellow: Fellow) -> bool:
        return False

    async def fails(request: Any, context: Any) -> None:
        raise StoreUnavailableError("no answer from etcd")

    check = QuorumCheck(Quorum("a", store, lambda: THREE, probe))  # type: ignore[arg-type]
    with pytest.raises(UnreachableError, match="0 of 3 managers answer"):
        await (await checked(check, fails))(None, None)
