"""A person cancels a round: its training ends and its weights are not taken."""

from __future__ import annotations

import pytest

from common.errors import RefusedError
from common.loop import ActiveLearningLoop
from common.loop.asking import ask_training, cancel
from common.store.projects import ProjectRow
from tests.fakes import World, settle
from tests.unit.test_loop import KEY, label
from tests.unit.way_back_world import calm, row_of, start_round, world_fixture  # noqa: F401 - a fixture


def test_a_cancelled_round_ends_at_once_and_its_training_with_the_next_step(world: World) -> None:
    folder = start_round(world)
    ask_training(world.tools, row_of(world))
    assert cancel(world.tools, row_of(world)) == {"project": KEY, "round": 1, "state": "cancelled"}
    assert [(r.state, r.message) for r in world.tools.store.rounds.all(KEY)] == [("cancelled", "cancelled by a person")]
    ActiveLearningLoop(world.tools).step(KEY)
    assert world.trainer.poll(folder).state == "lost"
    calm(world)
    assert len(world.tools.store.rounds.all(KEY)) == 1, "the same labels do not start a round again"
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    assert [r.state for r in world.tools.store.rounds.all(KEY)] == ["cancelled", "running"]


def test_a_cancelled_training_ends_also_when_the_next_round_was_asked_for_within_the_same_step(world: World) -> None:
    folder = start_round(world)
    loop = ActiveLearningLoop(world.tools)
    stop = loop._stop_cancelled

    def too_early(row: ProjectRow) -> None:
        stop(row)
        if world.tools.store.rounds.running(KEY) is not None and not world.tools.store.rounds.newest(KEY, "cancelled"):
            cancel(world.tools, row_of(world))
            ask_training(world.tools, row_of(world))

    loop._stop_cancelled = too_early  # type: ignore[method-assign]
    loop.step(KEY)
    loop.step(KEY)
    assert [r.state for r in world.tools.store.rounds.all(KEY)] == ["cancelled", "running"]
    assert world.trainer.poll(folder).state == "lost"


def test_a_cancelled_training_ends_also_while_the_platform_is_down(world: World) -> None:
    folder = start_round(world)
    world.platform.down = True
    world.clock[0] += 1000
    loop = ActiveLearningLoop(world.tools)
    loop.step(KEY)
    cancel(world.tools, row_of(world))
    loop.step(KEY)
    assert world.trainer.poll(folder).state == "lost"


def test_weights_of_a_cancelled_round_are_not_taken(world: World) -> None:
    start_round(world)
    cancel(world.tools, row_of(world))
    world.trainer.finish()
    settle(world)
    assert row_of(world).checkpoint is None
    with pytest.raises(RefusedError, match="no round of fake:1 is running: `hardfirst rounds --project fake:1`"):
        cancel(world.tools, row_of(world))
