"""The synthetic factory floor: what the plan promises at full size, and what a small drawn sample holds."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import SettingError
from common.sample import CLASSES, RARE, SampleSet, draw
from common.sample.cameras import cameras
from common.sample.oracle import FolderOracle
from common.sample.plan import Frame, Plan, Thing, plan
from common.sample.render import render

SIZE = (240, 180)
SMALL = {"count": 24, "held_out": 6, "size": SIZE, "seed": 3}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    return draw(tmp_path_factory.mktemp("floor") / "sample", **SMALL)


@pytest.fixture(scope="module", params=[0, 1, 2])
def full(request: pytest.FixtureRequest) -> Plan:
    return plan(count=440, held_out=100, seed=request.param)


def _with_defect(frames: tuple[Frame, ...], *names: str) -> int:
    return sum(any(f.planned(n) for n in names) for f in frames)


def _digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _boxes(sample: SampleSet) -> list[tuple[str, tuple[float, ...]]]:
    found = []
    for oracle in (FolderOracle(sample.labels), FolderOracle(sample.held_out_labels, CLASSES)):
        found += [(b.name, b.xyxy) for name in oracle.names for b in oracle.answer(name)]
    return found


def test_the_pool_and_the_held_out_set_have_the_wanted_sizes_and_names_of_their_own(full: Plan) -> None:
    names = [f.name for f in full.pool + full.held_out]
    assert (len(full.pool), len(full.held_out)) == (440, 100)
    assert len(set(names)) == 540


def test_rare_defects_are_three_to_five_percent_of_boxes_and_in_about_five_percent_of_images(full: Plan) -> None:
    count = Counter({name: sum(f.planned(name) for f in full.pool) for name in CLASSES})
    assert 0.025 <= sum(count[r] for r in RARE) / count.total() <= 0.05
    assert 0.04 <= _with_defect(full.pool, *RARE) / 440 <= 0.07
    assert {name for name, _ in count.most_common()[-2:]} == set(RARE)


def test_every_rare_class_can_be_measured_on_the_held_out_images(full: Plan) -> None:
    assert all(_with_defect(full.held_out, name) >= 12 for name in RARE)


def test_rare_defects_are_mostly_in_unusual_light(full: Plan) -> None:
    lights = [f.light for f in full.pool if any(f.planned(r) for r in RARE)]
    assert sum(light != "day" for light in lights) > len(lights) / 2


def test_about_half_of_the_pool_is_in_runs_of_five_to_fifteen_frames_in_a_row(full: Plan) -> None:
    runs = [(run, len(list(frames))) for run, frames in itertools.groupby(full.pool, key=lambda f: f.run) if run]
    assert all(5 <= length <= 15 for _, length in runs)
    assert len({run for run, _ in runs}) == len(runs)
    assert 0.4 <= sum(length for _, length in runs) / 440 <= 0.6


def test_no_run_and_no_recording_reaches_from_the_pool_into_the_held_out_images(full: Plan) -> None:
    assert not any(f.run for f in full.held_out)
    assert {f.sequence for f in full.pool}.isdisjoint(f.sequence for f in full.held_out)


def test_about_five_percent_of_images_show_nothing(full: Plan) -> None:
    assert 0.03 <= sum(not f.things for f in full.pool) / 440 <= 0.07


def test_night_glare_blur_and_covers_all_happen(full: Plan) -> None:
    lights = {f.light for f in full.pool}
    kinds = {t.kind for f in full.pool for t in f.things}
    assert {"day", "dim", "lamps", "night", "infrared", "glare"} == lights
    assert {"pillar", "cable", "rail"} < kinds
    assert any(f.blur for f in full.pool)


def test_the_frames_of_a_run_differ_by_a_hair_and_other_images_by_far() -> None:
    frames = plan(count=24, held_out=4, seed=3).pool
    run = [f for f in frames if f.run == frames[[bool(f.run) for f in frames].index(True)].run]
    first, second, last = (_without_noise(f) for f in (run[0], run[1], run[-1]))
    other = next(_without_noise(f) for f in frames if f.camera != run[0].camera)
    assert 0 < np.abs(first - second).mean() < 3
    assert np.abs(first - last).mean() < 6
    assert np.abs(first - other).mean() > 12


def _without_noise(frame: Frame) -> np.ndarray:
    return np.asarray(Image.fromarray(render(frame, SIZE)[0]).reduce(6), float)


@given(count=st.integers(12, 200), held_out=st.integers(4, 60), seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_plan_of_any_size_has_exactly_that_size(count: int, held_out: int, seed: int) -> None:
    made = plan(count=count, held_out=held_out, seed=seed)
    assert (len(made.pool), len(made.held_out)) == (count, held_out)
    assert all(_with_defect(made.pool, name) and _with_defect(made.held_out, name) for name in RARE)


def test_the_same_seed_plans_the_same_and_another_seed_something_else() -> None:
    assert plan(count=30, held_out=5, seed=1) == plan(count=30, held_out=5, seed=1)
    assert plan(count=30, held_out=5, seed=1).pool != plan(count=30, held_out=5, seed=2).pool


@pytest.mark.parametrize(
    "wrong", [{"count": 3}, {"held_out": 0}, {"seed": -1}, {"size": (10, 10)}, {"size": (9999, 360)}]
)
def test_an_argument_out_of_range_is_one_clear_sentence(tmp_path: Path, wrong: dict[str, object]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(SettingError, match=f"{name} of the sample is"):
        draw(tmp_path, **{**SMALL, **wrong})
    assert not list(tmp_path.iterdir()), value


def test_every_image_has_its_size_and_its_label_file(small: SampleSet) -> None:
    assert (len(small.images), len(small.held_out)) == (24, 6)
    for image, labels in [(i, small.labels) for i in small.images] + [
        (i, small.held_out_labels) for i in small.held_out
    ]:
        with Image.open(image) as picture:
            assert picture.size == SIZE
        assert (labels / f"{image.stem}.txt").is_file()


def test_boxes_lie_inside_the_image_and_are_not_empty(small: SampleSet) -> None:
    boxes = _boxes(small)
    assert len(boxes) > 50
    for _, (x1, y1, x2, y2) in boxes:
        assert 0 <= x1 < x2 <= 1
        assert 0 <= y1 < y2 <= 1
        assert min((x2 - x1) * SIZE[0], (y2 - y1) * SIZE[1]) >= 3


def test_every_rare_class_is_in_pool_and_held_out_images_even_of_a_small_sample(small: SampleSet) -> None:
    for folder in (small.labels, small.held_out_labels):
        oracle = FolderOracle(folder, CLASSES)
        assert {b.name for n in oracle.names for b in oracle.answer(n)} >= set(RARE)


def test_the_same_seed_draws_the_same_bytes_and_another_seed_other_pictures(small: SampleSet, tmp_path: Path) -> None:
    again = draw(tmp_path / "again", **SMALL)
    other = draw(tmp_path / "other", **{**SMALL, "seed": 4, "count": 12, "held_out": 4})
    assert _digest(again.folder) == _digest(small.folder)
    assert other.images[0].read_bytes() != small.images[0].read_bytes()


def test_a_second_call_draws_nothing(small: SampleSet) -> None:
    before = {p: p.stat().st_mtime_ns for p in small.folder.rglob("*")}
    drawn: list[int] = []
    assert draw(small.folder, **SMALL, progress=lambda done, _: drawn.append(done)) == small
    assert drawn == []
    assert {p: p.stat().st_mtime_ns for p in small.folder.rglob("*")} == before


def test_an_interrupted_call_is_taken_up_where_it_stopped(small: SampleSet, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "s", **SMALL, progress=stop)
    drawn: list[int] = []
    again = draw(tmp_path / "s", **SMALL, progress=lambda done, _: drawn.append(done))
    assert drawn == list(range(21, 31))
    assert _digest(again.folder) == _digest(small.folder)


def test_a_picture_that_was_lost_is_drawn_again(tmp_path: Path) -> None:
    tiny = {**SMALL, "count": 12, "held_out": 4}
    sample = draw(tmp_path, **tiny)
    before = _digest(tmp_path)
    sample.images[3].unlink()
    draw(tmp_path, **tiny)
    assert _digest(tmp_path) == before


def test_a_folder_with_something_else_in_it_is_left_alone(small: SampleSet, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingError, match="holds something else than a sample"):
        draw(tmp_path, **SMALL)
    with pytest.raises(SettingError, match="name another folder"):
        draw(small.folder, **{**SMALL, "seed": 9})
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_groups_file_names_every_image_and_its_run(small: SampleSet) -> None:
    rows = [line.split(",") for line in (small.folder / "groups.csv").read_text().splitlines()]
    assert rows[0] == ["image", "sequence", "run"]
    assert [r[0] for r in rows[1:]] == [p.name for p in small.images + small.held_out]
    assert {Path(r[0]).stem: r[2] for r in rows[1:] if r[2]} == small.runs
    assert len(small.runs) >= 5


def test_data_yaml_and_classes_name_the_same_classes(small: SampleSet) -> None:
    data = yaml.safe_load(small.data_yaml.read_text())
    assert tuple(data["names"][i] for i in range(len(CLASSES))) == CLASSES
    assert (small.folder / data["train"], small.folder / data["val"]) == (
        small.images[0].parent,
        small.held_out[0].parent,
    )
    assert tuple((small.folder / "classes.txt").read_text().split()) == CLASSES


CRATE = Thing("crate", 0.5, 0.5, 0.4, 0.0, seed=7)


def _scene(*things: Thing, light: str = "day") -> Frame:
    camera = next(c for c in cameras(0) if c.view == "bench")
    return Frame("one", camera, "s", "", things, light, 0.0, seed=1, light_seed=2, clock=0)


def test_a_box_covers_only_what_is_visible_behind_another_part() -> None:
    alone = {b.name: b.xyxy for b in render(_scene(CRATE), SIZE)[1]}
    half = {b.name: b.xyxy for b in render(_scene(CRATE, Thing("pallet", 0.5, 0.68, 0.6, 0.0, seed=1)), SIZE)[1]}
    assert half["crate"][:3] == alone["crate"][:3]
    assert half["crate"][3] < alone["crate"][3] - 0.05


def test_a_part_that_is_hidden_gets_no_label() -> None:
    behind = Thing("bolt", 0.5, 0.52, 0.1, 0.0, seed=1)
    assert [b.name for b in render(_scene(behind, CRATE), SIZE)[1]] == ["crate"]


def test_a_part_that_leaves_the_image_is_boxed_up_to_the_border() -> None:
    (box,) = render(_scene(replace(CRATE, x=0.9)), SIZE)[1]
    assert box.xyxy[2] == 1


def test_a_defect_is_boxed_inside_its_part() -> None:
    part, flaw = render(_scene(replace(CRATE, flaws=("dent",))), SIZE)[1]
    assert (part.name, flaw.name) == ("crate", "dent")
    assert part.xyxy[0] <= flaw.xyxy[0] < flaw.xyxy[2] <= part.xyxy[2]
    assert part.xyxy[1] <= flaw.xyxy[1] < flaw.xyxy[3] <= part.xyxy[3]


def test_covers_and_robot_arms_carry_no_label() -> None:
    pillar = Thing("pillar", 0.2, 0.7, 0.1, 0.0, seed=1)
    arm = Thing("robot_arm", 0.7, 0.2, 0.5, 0.0, seed=1)
    assert render(_scene(pillar, arm), SIZE)[1] == []


def test_night_is_darker_than_day_and_glare_is_brighter() -> None:
    brightness = {light: render(_scene(CRATE, light=light), SIZE)[0].mean() for light in ("night", "day", "glare")}
    assert brightness["night"] < brightness["day"] < brightness["glare"]
