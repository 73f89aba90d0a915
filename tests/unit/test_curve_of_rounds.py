"""The learning curve of a project, out of what its rounds measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.loop.curve import NOTHING, advice_line, summary
from common.store.measurements import MeasurementRow
from tests.fakes import World, make_world

KEY = "fake:1"


def measured(
    number: int, trained: int, labels: int, map50: float, *, images: int = 40, biased: int = 0
) -> MeasurementRow:
    figures = {"map50": map50, "map5095": map50 / 2}
    figures |= {f"{name}_{end}": value for name, value in figures.items() for end in ("low", "high")}
    figures |= {"ap50/cat": map50, "ap5095/cat": map50 / 2, "quality/cat": map50}
    return MeasurementRow(KEY, number, "checkpoint", trained, str(trained) * 64, labels, images, biased, figures, 1.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, 2)


def curve(world: World, *rows: MeasurementRow) -> dict[str, object]:
    world.tools.store.measurements.add(rows)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    found = summary(world.tools, row)
    assert json.loads(json.dumps(found)) == found
    return found


def points(found: dict[str, object], *names: str) -> list[tuple[object, ...]]:
    return [tuple(p[n] for n in names) for p in found["points"]]  # type: ignore[attr-defined]


def test_before_the_first_round_the_curve_says_so(world: World) -> None:
    found = curve(world)
    assert (found["round"], found["points"], found["note"]) == (None, [], NOTHING)
    assert advice_line(found) == f"learning curve, wait: {NOTHING}"


def test_every_checkpoint_is_measured_by_the_newest_yardstick(world: World) -> None:
    found = curve(
        world,
        measured(1, 1, 100, 0.3),
        measured(2, 1, 100, 0.4),
        measured(2, 2, 200, 0.5),
    )
    assert (found["round"], found["images"], found["biased"], found["note"]) == (2, 40, 0, "")
    assert points(found, "trained", "labels", "map50", "measured", "current") == [
        (1, 100, 0.4, 2, True),
        (2, 200, 0.5, 2, True),
    ]
    assert points(found, "gain") == [(None,), (pytest.approx(0.1),)]
    assert found["points"][1]["classes"] == {"cat": {"ap50": 0.5, "ap5095": 0.25, "quality": 0.5}}  # type: ignore[index]


def test_a_checkpoint_that_is_gone_keeps_its_last_figure_and_takes_no_part_in_the_advice(world: World) -> None:
    rows = [measured(1, 1, 100, 0.9), *(measured(3, n, 100 * n, 0.4 + n / 10) for n in (2, 3))]
    found = curve(world, *rows)
    assert points(found, "trained", "current", "gain")[0] == (1, False, None)
    assert found["advice"]["reason"] == "2 of 3 rounds that advice needs"  # type: ignore[index]


def test_two_rounds_that_gain_little_say_stop_and_what_the_next_labels_would_bring(world: World) -> None:
    found = curve(world, *(measured(4, n, 100 * n, v) for n, v in ((1, 0.5), (2, 0.6), (3, 0.605), (4, 0.606))))
    advice = found["advice"]
    assert advice["action"] == "stop"  # type: ignore[index]
    assert advice["labels"] == 40, "a tenth of what there is"  # type: ignore[index]
    assert advice["gain"] == pytest.approx(0.001)  # type: ignore[index]
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    world.tools.store.projects.update(KEY, settings={"stop_gain": 0.0001})
    assert curve(world)["advice"]["action"] == "continue"  # type: ignore[index]


def test_with_few_images_there_is_no_advice(world: World) -> None:
    found = curve(world, *(measured(3, n, 100 * n, 0.5, images=12) for n in (1, 2, 3)))
    assert found["note"] == "not enough data: 12 validation images, 30 are needed"
    assert advice_line(found) == "learning curve, wait: not enough data: 12 validation images, 30 are needed"


def test_biased_images_are_told(world: World) -> None:
    found = curve(world, measured(1, 1, 100, 0.5, biased=15))
    assert found["note"] == "15 of the 40 images are not of the random slice"


def test_the_weights_a_project_began_with_are_a_point_and_no_round(world: World) -> None:
    found = curve(world, measured(1, 0, 0, 0.2), measured(1, 1, 100, 0.5))
    assert points(found, "trained", "labels", "gain", "serves") == [(0, 0, None, True), (1, 100, None, False)]
    assert found["advice"]["reason"] == "1 of 3 rounds that advice needs"  # type: ignore[index]


def test_of_rounds_with_as_many_labels_the_last_one_counts(world: World) -> None:
    found = curve(world, *(measured(3, n, labels, v) for n, labels, v in ((1, 100, 0.4), (2, 200, 0.1), (3, 200, 0.6))))
    assert points(found, "trained", "gain") == [(1, None), (2, None), (3, pytest.approx(0.2))]


def test_a_measurement_without_a_box_is_none(world: World) -> None:
    empty = MeasurementRow(KEY, 5, "checkpoint", 1, "1" * 64, 100, 3, 0, {}, 1.0)
    assert curve(world, measured(1, 1, 100, 0.5), empty)["round"] == 1
