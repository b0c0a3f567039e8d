"""The node's events: a listener that reads too slowly is told, and can go on from the last one that it has."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from pycompose.proto.refusal import HistoryError
from pycompose.proto.v1 import service_pb2, task_pb2
from pycompose.worker.agent import events as module
from pycompose.worker.agent.events import Events


def test_a_slow_listener_is_told_what_it_lost_and_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 3)
    monkeypatch.setattr(module, "KEPT", 100)
    events = Events()

    def tell(number: int) -> None:
        events.tell(task_pb2.Task(id=str(number)), service_pb2.TaskSpec(), "start")

    async def scenario() -> None:
        tell(0)
        got = []
        async with aclosing(events.listen(since_ns=0)) as slow:
            got.append(await anext(slow))
            for number in range(1, 9):
                tell(number)
            got += [await anext(slow) for _ in range(3)]
            with pytest.raises(HistoryError, match="too slowly"):
                await anext(slow)
        assert [event.task_id for event in got] == ["0", "1", "2", "3"]
        async with aclosing(events.listen(since_ns=got[-1].time.ToNanoseconds() + 1)) as again:
            assert [(await anext(again)).task_id for _ in range(5)] == ["4", "5", "6", "7", "8"]

    asyncio.run(scenario())
