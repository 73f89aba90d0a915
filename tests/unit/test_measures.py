"""A project's figures from the store: `kpis`, what the store is asked for them, and /metrics."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from common.domain import Annotation, ClassMapping, LabelledBox, ProjectSpec, RemoteSample
from common.loop.measures import kpis, read
from common.store import schema
from common.store.measurements import MeasurementRow
from common.store.projects import ProjectRow
from common.store.publications import Place
from common.store.times import First
from common.web.metrics import ProjectMetrics
from tests.fakes import FakeModels, World, make_world

KEY = "fake:1"
T0 = 1_000_000.0
CORNERS = (0.1, 0.1, 0.6, 0.6)


def box(origin: str = "manual", name: str = "cat") -> LabelledBox:
    return LabelledBox(name, CORNERS, origin)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Sixty images that were listed at T0, nothing read by a loop."""
    world = make_world(tmp_path, images=0)
    store = world.tools.store
    spec = ProjectSpec("Pets", (ClassMapping("cat", ("kitty",)), ClassMapping("dog")))
    store.projects.update(KEY, state="active", spec=spec, first_read=T0)
    store.samples.replace(KEY, [RemoteSample(str(i), f"{i}.png") for i in range(60)])
    with store.engine.begin() as connection:
        connection.execute(sa.update(schema.sample).values(seen=T0))
    return world


def row(world: World) -> ProjectRow:
    found = world.tools.store.projects.get(KEY)
    assert found is not None
    return found


def order(world: World, at: float, checkpoint: int | None = None, samples: int = 60) -> None:
    """An order of all images becomes active."""
    places = [Place(i + 1, str(i), i / 100, 0.5, {}) for i in range(samples)]
    made = world.tools.store.publications.create(
        KEY, name="hardfirst", round_number=0, checkpoint=checkpoint, sha8="0" * 8, places=places, seconds={}
    )
    world.tools.store.publications.activate(made)
    world.tools.store.publications.update(made.id, activated=at, activations=[at])


def answer(world: World, sample: int, at: float, *boxes: LabelledBox, lag: float = 1.0, **values: Any) -> None:
    """Somebody answers at ``at``; we learn of it ``lag`` seconds later."""
    made = Annotation(f"{sample}-1", str(sample), datetime.fromtimestamp(at, UTC), boxes=boxes, **values)
    world.tools.store.labels.record(KEY, [(str(sample), [made])], now=at + lag)


def finish_round(world: World, labels: int, started: float, seconds: float, verdict: str = "promoted") -> None:
    store = world.tools.store
    revision = row(world).revision
    opened = store.rounds.start(KEY, revision=revision, labels=labels, reason="", folder="/r", token=0)
    assert opened is not None
    store.rounds.finish(
        opened, path="/w", sha256=f"{opened.number}" * 64, names=["cat", "dog"], metrics={}, message="", verdict=verdict
    )
    with store.engine.begin() as connection:
        mine = schema.round_.c.number == opened.number
        connection.execute(sa.update(schema.round_).where(mine).values(started=started, ended=started + seconds))
        connection.execute(sa.update(schema.checkpoint).values(created=started + seconds))


# --- query to label ------------------------------------------------------------------------------------------


def test_an_image_waits_from_the_order_that_was_active_to_its_first_answer(world: World) -> None:
    order(world, T0 + 100)
    answer(world, 0, T0 + 110, lag=500)
    answer(world, 1, T0 + 160)
    order(world, T0 + 200)
    answer(world, 2, T0 + 230)
    answer(world, 0, T0 + 900)
    found = kpis(world.tools, row(world))["query_to_label"]
    assert found == {"images": 3, "median_s": 30, "p90_s": pytest.approx(54)}


def test_an_order_that_serves_once_more_takes_no_answer_from_the_one_in_between(world: World) -> None:
    for at in (100, 200):
        order(world, T0 + at)
    for sample, at in enumerate((110, 230, 360)):
        answer(world, sample, T0 + at, box("prediction"))
    first, second = world.tools.store.publications.all(KEY)
    world.tools.store.publications.update(first.id, activated=T0 + 300, activations=[T0 + 100, T0 + 300])
    answers = read(world.tools, row(world), 10)
    of = {a.sample: answers.order_of(a) for a in answers.all}
    assert [getattr(of[s], "id", None) for s in "012"] == [first.id, second.id, first.id]
    found = kpis(world.tools, row(world))
    assert found["query_to_label"] == {"images": 3, "median_s": 30, "p90_s": pytest.approx(54)}
    world.tools.store.publications.update(first.id, activated=None, activations=[T0 + 100])
    assert kpis(world.tools, row(world))["boxes"]["accepted"] == 3, "also while it waits to serve once more"


def test_answers_from_before_connecting_skips_and_bulk_ones_waited_for_nothing(world: World) -> None:
    answer(world, 0, T0 + 10)
    order(world, T0 + 100)
    answer(world, 1, T0 + 110, skipped=True)
    answer(world, 2, T0 + 110, converted=True)
    found = kpis(world.tools, row(world))["query_to_label"]
    assert found == "not enough data: no image was labelled while an order of hardfirst was active"
    answer(world, 1, T0 + 150)
    assert kpis(world.tools, row(world))["query_to_label"] == {"images": 1, "median_s": 50, "p90_s": 50}


def test_a_clock_that_runs_ahead_on_the_platform_makes_no_label_later_than_it_was_learned_of(world: World) -> None:
    order(world, T0 + 100)
    answer(world, 0, T0 + 9000, lag=-8880)
    assert world.tools.store.times.firsts(KEY, ["0", "1"]) == {"0": First(T0 + 120, T0)}


# --- minutes, with and without boxes -------------------------------------------------------------------------


def test_time_is_split_by_whether_boxes_were_shown_and_a_break_is_left_out(world: World) -> None:
    order(world, T0 + 100)
    for i in range(24):
        answer(world, i, T0 + 110 + i, box("prediction"), lead_time=10.0 + i % 3)
    for i in range(24, 50):
        before = T0 + 10 + i
        answer(world, i, before, box(), box(), lead_time=40.0 + i % 5)
    answer(world, 50, T0 + 300, box("prediction-changed"), lead_time=7200.0)
    found = kpis(world.tools, row(world))
    per_image = found["seconds_per_image"]
    assert per_image["with_boxes"] == {"images": 24, "median_s": 11, "low_s": 10, "high_s": 12}
    assert per_image["without_boxes"]["images"] == 26
    assert per_image["difference"]["s"] == -31
    assert per_image["difference"]["low_s"] < -31 < per_image["difference"]["high_s"] < 0
    assert found["seconds_per_box"]["without_boxes"]["median_s"] == 21
    assert found["left_out"]["breaks"] == 1
    assert 44 < found["left_out"]["break_limit_s"] < 7200


@pytest.mark.parametrize("answers", [0, 30])
def test_seconds_that_a_platform_never_tells_are_not_known_however_many_answers_there_are(
    world: World, answers: int
) -> None:
    world.tools.store.projects.update(KEY, spec=replace(row(world).spec, timed=False))
    order(world, T0 + 100)
    for i in range(answers):
        answer(world, i, T0 + 110 + i, box("prediction"))
    found = kpis(world.tools, row(world))
    not_known = "not known: the platform does not tell how long an answer took"
    assert [found["seconds_per_image"], found["seconds_per_box"]] == [not_known] * 2
    assert found["left_out"]["untimed"] == answers


def test_where_no_predicted_box_is_left_the_orders_own_prediction_says_whether_one_was_shown(
    world: World, tmp_path: Path
) -> None:
    order(world, T0 + 100)
    store, models = world.tools.store, FakeModels()
    base = models.base("")
    shades = {"0": 250, "1": 20}  # the fake model is as sure as the picture is bright
    for name, level in shades.items():
        (tmp_path / name).mkdir()
        path = tmp_path / name / "a.png"
        Image.new("RGB", (32, 32), (level, level, level)).save(path)
        (said,) = models.detector(base).predict([path])
        assert not isinstance(said, str)
        store.predictions.put(base.sha256, world.tools.settings.imgsz, [(name * 64, said)])
        of = store.samples.some(KEY, [name])[name]
        store.samples.fetched(KEY, [{"id": of.id, "sha256": name * 64, "width": 32, "height": 32, "problem": ""}])
    for i in range(3):
        answer(world, i, T0 + 200, box(), lead_time=5.0)
    found = kpis(world.tools, row(world))
    assert found["seconds_per_image"]["with_boxes"] == "not enough data: 1 of 20 answers"
    assert found["seconds_per_image"]["without_boxes"] == "not enough data: 1 of 20 answers"
    assert found["left_out"]["unknown"] == 1


# --- boxes, rounds, the model's age --------------------------------------------------------------------------


def test_boxes_count_by_class_from_the_first_order_on(world: World) -> None:
    answer(world, 0, T0 + 10, box(), box())
    order(world, T0 + 100)
    answer(world, 1, T0 + 110, box("prediction"), box("prediction-changed", "dog"), box())
    answer(world, 2, T0 + 110, box("prediction"))
    found = kpis(world.tools, row(world))["boxes"]
    assert {k: found[k] for k in ("accepted", "edited", "drawn")} == {"accepted": 2, "edited": 1, "drawn": 1}
    assert found["shares"]["accepted"] == 0.5
    assert found["classes"] == {"cat": {"accepted": 2, "drawn": 1}, "dog": {"edited": 1}}
    assert found["deleted"].startswith("not known")


def test_only_the_newest_version_of_an_answer_counts(world: World) -> None:
    order(world, T0 + 100)
    answer(world, 1, T0 + 110, box("prediction"))
    answer(world, 1, T0 + 120, box("prediction-changed"))
    found = kpis(world.tools, row(world))["boxes"]
    assert (found["accepted"], found["edited"]) == (0, 1)


def test_rounds_and_the_age_of_the_model(world: World) -> None:
    nothing = kpis(world.tools, row(world))
    assert nothing["rounds"]["finished"] == 0
    assert nothing["model"] == {"round": 0, "age_s": None, "labels_since": 0}
    answer(world, 0, T0 + 10)
    finish_round(world, 20, T0, 60)
    finish_round(world, 50, T0 + 1000, 100, "kept")
    answer(world, 1, T0 + 2000)
    world.clock[0] = T0 + 5000
    found = kpis(world.tools, row(world))
    assert found["rounds"] == {
        "finished": 2, "per_week": 2, "labels": 30, "seconds": 80, "verdicts": {"promoted": 0.5, "kept": 0.5}
    }  # fmt: skip
    assert found["model"] == {"round": 1, "age_s": T0 + 5000 - (T0 + 1100), "labels_since": 1}


def test_figures_are_json_and_say_what_is_missing(world: World) -> None:
    found = json.loads(json.dumps(kpis(world.tools, row(world)), allow_nan=False))
    assert found["labels_saved"] == "not enough data: the setting control is off, so no control training was made"
    assert found["seconds_per_image"]["difference"] == "not enough data: both kinds need 20 answers"


# --- metrics -------------------------------------------------------------------------------------------------


def test_metrics_tell_verdicts_quality_advice_age_and_times(world: World) -> None:
    order(world, T0 + 100)
    answer(world, 0, T0 + 160, box("prediction"), lead_time=12.0)
    finish_round(world, 20, T0, 60)
    metrics = {f"map{k}{end}": v for k in ("50", "5095") for end, v in (("", 0.5), ("_low", 0.4), ("_high", 0.6))}
    measured = MeasurementRow(KEY, 1, "checkpoint", 1, "1" * 64, 20, 40, 0, metrics, T0)
    world.tools.store.measurements.add([measured])
    world.clock[0] = T0 + 500
    text = ProjectMetrics(world.tools).exposition()[0].decode()
    for line in (
        'hardfirst_rounds_total{outcome="promoted",project="fake:1"} 1.0',
        'hardfirst_champion_map50_ratio{project="fake:1"} 0.5',
        'hardfirst_champion_map5095_low_ratio{project="fake:1"} 0.4',
        'hardfirst_advice{hardfirst_advice="wait",project="fake:1"} 1.0',
        'hardfirst_model_age_seconds{project="fake:1"} 440.0',
        'hardfirst_round_duration_seconds{project="fake:1"} 60.0',
        'hardfirst_query_to_label_seconds{project="fake:1",quantile="0.5"} 60.0',
        'hardfirst_recent_boxes{kind="accepted",project="fake:1"} 1.0',
        'hardfirst_lead_time_seconds{project="fake:1",quantile="0.9"} 12.0',
        'hardfirst_labelled_samples{project="fake:1"} 1.0',
    ):
        assert line in text.splitlines()


def test_metrics_are_computed_anew_after_half_a_minute(world: World) -> None:
    now = [0.0]
    metrics = ProjectMetrics(world.tools, lambda: now[0])

    def labelled() -> str:
        lines = metrics.exposition()[0].decode().splitlines()
        return next(line for line in lines if line.startswith("hardfirst_labelled_samples{"))

    assert labelled().endswith(" 0.0")
    answer(world, 0, T0 + 160)
    now[0] = 29.0
    assert labelled().endswith(" 0.0")
    now[0] = 30.0
    assert labelled().endswith(" 1.0")


def test_a_project_whose_settings_are_wrong_still_has_what_needs_none(world: World) -> None:
    world.tools.store.projects.update(KEY, settings={"imgsz": "large"})
    text = ProjectMetrics(world.tools).exposition()[0].decode()
    assert 'hardfirst_samples{project="fake:1"} 60.0' in text
    assert "hardfirst_advice{" not in text


def test_a_large_project_costs_metrics_less_than_half_a_second_of_cpu(world: World) -> None:
    """80,000 images and 100,000 answers; a tenth of a second is what it should cost."""
    store = world.tools.store
    order(world, T0 + 100)
    with store.engine.begin() as connection:
        samples = [
            {"project": KEY, "external": f"s{i}", "uri": "", "answers": 1, "skips": 0, "gone": False, "seen": T0,
             "sha256": f"{i:064d}", "width": 9, "height": 9, "problem": ""} for i in range(80_000)
        ]  # fmt: skip
        connection.execute(sa.insert(schema.sample), samples)
        body = {"person": "", "skipped": False, "ground_truth": False, "converted": False, "lead_time": 9.0,
                "boxes": [{"name": "cat", "xyxy": CORNERS, "origin": "prediction"}] * 3, "dropped": []}  # fmt: skip
        rows = [
            {"project": KEY, "external": str(i), "sample": f"s{i % 80_000}", "updated": T0 + i, "body": body,
             "since": 1 + i, "until": None, "recorded": T0 + i} for i in range(100_000)
        ]  # fmt: skip
        connection.execute(sa.insert(schema.annotation), rows)
    metrics = ProjectMetrics(world.tools)
    took = []
    for _ in range(3):
        metrics._kept.clear()
        started = time.process_time()
        metrics.exposition()
        took.append(time.process_time() - started)
    assert min(took) < 0.5
    assert len(read(world.tools, row(world), 1000).all) == 1000
    assert np.isfinite(kpis(world.tools, row(world))["query_to_label"]["median_s"])
