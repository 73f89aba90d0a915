"""A person promotes the model of a round that was kept back."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import RefusedError, UnknownNameError
from common.loop.way_back import ask_promotion
from tests.fakes import World, settle
from tests.unit.test_loop import KEY, label
from tests.unit.way_back_world import a_round, back, row_of, world_fixture  # noqa: F401 - a fixture


def kept_round(world: World) -> int:
    """A round whose model serves no more: somebody went back; returns its number."""
    settle(world)
    a_round(world)
    back(world)
    return 1


def test_a_person_promotes_a_model_that_was_kept_back_and_it_makes_a_new_order(world: World) -> None:
    number = kept_round(world)
    assert ask_promotion(world.tools, row_of(world), number) == {"project": KEY, "round": 1}
    settle(world)
    assert world.tools.serving(row_of(world))[1] == 1
    assert (world.platform.active or "").startswith("hardfirst@1.3-")
    assert row_of(world).way_back == {}


def test_promoting_what_cannot_serve_is_refused(world: World) -> None:
    number = kept_round(world)
    with pytest.raises(UnknownNameError, match=r"no round 7; there are \[1\]"):
        ask_promotion(world.tools, row_of(world), 7)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    with pytest.raises(RefusedError, match=r"round 2 is running and left no weights; those that did: \[1\]"):
        ask_promotion(world.tools, row_of(world), 2)
    Path(world.tools.store.rounds.checkpoints(KEY)[0].path).unlink()
    with pytest.raises(RefusedError, match="the weights of round 1 are no longer kept"):
        ask_promotion(world.tools, row_of(world), number)


def test_promoting_what_serves_already_is_refused(world: World) -> None:
    settle(world)
    a_round(world)
    with pytest.raises(RefusedError, match="the model of round 1 serves already"):
        ask_promotion(world.tools, row_of(world), 1)
