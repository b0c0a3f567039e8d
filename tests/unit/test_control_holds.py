"""Who changes a project: one after another, in the order of asking; who leaves gives it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from pycompose.manager.control.holding import Holds
from pycompose.proto.v1.control_pb2 import ProjectHolder

Claim = AsyncGenerator[ProjectHolder | None, None]


async def told(claim: Claim) -> str:
    """The next answer: who is waited for, "" when it is held."""
    answer = await asyncio.wait_for(anext(claim), 30)
    return answer.command if answer is not None else ""


def test_in_the_order_of_asking() -> None:
    async def scenario() -> None:
        now = [100.0]
        holds = Holds(lambda: now[0])
        first, second, third = (holds.take("p", ProjectHolder(command=word)) for word in ("up", "down", "scale"))
        assert await told(first) == ""
        assert [await told(second), await told(third)] == ["up", "up"]
        assert await told(holds.take("other", ProjectHolder(command="up"))) == ""
        now[0] = 105.0
        await first.aclose()
        assert await told(second) == ""
        waits = await anext(third)
        assert waits is not None
        assert (waits.command, waits.since.seconds) == ("down", 105)
        await second.aclose()
        assert await told(third) == ""
        await third.aclose()
        assert await told(holds.take("p", ProjectHolder(command="again"))) == ""

    asyncio.run(scenario())


def test_one_that_gives_up_is_not_waited_for() -> None:
    async def scenario() -> None:
        holds = Holds(lambda: 1.0)
        first, second, third = (holds.take("p", ProjectHolder(command=word)) for word in ("up", "down", "scale"))
        assert await told(first) == ""
        assert [await told(second), await told(third)] == ["up", "up"]
        await second.aclose()
        await first.aclose()
        assert await told(third) == ""

    asyncio.run(scenario())
