"""The way back where it is refused: what is not there, not kept, or not as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import RefusedError, UnknownNameError
from common.loop.way_back import ask_promotion, ask_way_back, restorable
from common.ports import Model
from tests.fakes import World, settle
from tests.unit.test_loop import KEY
from tests.unit.way_back_world import FIRST, a_round, back, make, row_of, told, world_fixture  # noqa: F401 - a fixture


def test_a_version_that_nobody_knows_lists_those_there_are(world: World) -> None:
    settle(world)
    a_round(world)
    with pytest.raises(UnknownNameError, match=f"no queue 'hardfirst@9.9-x'; there are \\['{FIRST}'\\]"):
        back(world, "hardfirst@9.9-x")


def test_nothing_to_go_back_to_is_said(world: World) -> None:
    settle(world)
    with pytest.raises(RefusedError, match=r"has nothing to go back to: no model served before this one$"):
        back(world)
    with pytest.raises(RefusedError, match=f"{FIRST} serves already"):
        back(world, FIRST)


@pytest.mark.parametrize("state", ["asked", "stopped", "archived"])
def test_only_an_active_project_goes_back(world: World, state: str) -> None:
    settle(world)
    a_round(world)
    world.tools.store.projects.update(KEY, state=state, reason="because")
    for ask in (lambda: ask_way_back(world.tools, row_of(world)), lambda: ask_promotion(world.tools, row_of(world), 1)):
        with pytest.raises(RefusedError, match=rf"fake:1 is {state} \(because\)"):
            ask()
    assert row_of(world).way_back == {}


def test_weights_or_predictions_that_are_no_longer_kept_are_said(tmp_path: Path) -> None:
    world = make(tmp_path, keep_publications=5)
    settle(world)
    second = a_round(world)
    a_round(world)
    (left, _) = world.tools.store.rounds.checkpoints(KEY)
    world.tools.store.predictions.forget([left.sha256])
    with pytest.raises(RefusedError, match=rf"the predictions of {second} are no longer kept.*\['{FIRST}'\]"):
        back(world)
    Path(left.path).unlink()
    with pytest.raises(RefusedError, match=f"the weights of {second} are no longer kept"):
        back(world)
    assert [p.version for p in restorable(world.tools, row_of(world))] == [FIRST]


def test_other_first_weights_than_then_are_said(world: World) -> None:
    settle(world)
    a_round(world)
    world.tools.models.base = lambda _path: Model(Path("other.pt"), "f" * 64, ("kitty",))  # type: ignore[method-assign]
    with pytest.raises(RefusedError, match=f"{FIRST} was made with other first weights than those of today"):
        back(world)


def test_what_went_between_the_wish_and_the_deed_is_told_in_the_journal_and_changes_nothing(world: World) -> None:
    settle(world)
    second = a_round(world)
    ask_way_back(world.tools, row_of(world))
    world.tools.store.predictions.forget()
    settle(world)
    assert (world.platform.active, row_of(world).way_back) == (second, {})
    assert "what a person asked for was not done: the predictions of" in told(world)[0]
