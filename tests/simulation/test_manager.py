"""Thousands of random lives of a manager and its workers: what must hold holds after every step, and at rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulation.world import World

STEPS = 250


def live(seed: int, nodes: int) -> World:
    """One life; a failure tells its last steps."""
    world = World(seed, nodes)
    try:
        for _ in range(STEPS):
            world.step()
            world.check()
        world.settle()
        world.check_rest()
    except Exception as error:
        error.add_note(f"seed {seed}, {nodes} nodes; the last steps:\n" + "\n".join(world.story[-60:]))
        raise
    finally:
        world.runner.close()
    return world


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("nodes", [1, 3])
def test_soak_random_lives(nodes: int, many: Callable[[int], int]) -> None:
    for seed in range(many(2000)):
        live(seed, nodes)


def test_a_seed_tells_the_same_story_twice() -> None:
    assert live(7, 3).story == live(7, 3).story
