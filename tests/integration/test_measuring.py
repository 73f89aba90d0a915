"""Weights on a validation split: what ultralytics' own validator says, classes by name, nothing measured twice."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.average_precision import Matches, figures
from common.domain import Label
from common.errors import ModelError, TrainingError
from common.ports import TrainingSample, TrainingSpec
from common.yolo import evaluate, files, matches, offline, trainer, training
from common.yolo.dataset import write_dataset
from tests.cells import CELLS, cells

pytestmark = pytest.mark.integration
TWO = ("WBC", "RBC")


def a_round(folder: Path, base: Path, classes: tuple[str, ...], train: Any, val: Any, updates: int) -> TrainingSpec:
    write_dataset(folder, train, val, classes)
    spec = TrainingSpec(folder, base, classes, 128, updates, 0, 4, "cpu", seed=1, threads=1, token=5)
    trainer.begin(spec)
    return spec


@pytest.fixture(scope="module")
def taught(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingSpec:
    """A detector of white and red cells, taught on four photographs; twenty to measure on."""
    folder = tmp_path_factory.mktemp("taught")
    offline.prepare(folder / "home")
    samples = cells(shared, 24)
    spec = a_round(folder / "round", shared / "weights/yolo11n-rebuilt.pt", TWO, samples[:4], samples[4:], 20)
    training.train(spec)
    return spec


def measured(spec: TrainingSpec, data: Path) -> Matches:
    offline.load()
    from common.yolo import measuring

    return measuring.measure(spec.folder / trainer.FINAL, data, spec.imgsz, "cpu")


def test_figures_are_those_of_ultralytics_own_validator(taught: TrainingSpec, tmp_path: Path) -> None:
    offline.load()
    from ultralytics import YOLO

    options = {"imgsz": taught.imgsz, "batch": 16, "device": "cpu", "workers": 0, "plots": False, "verbose": False}
    data = taught.folder / "data.yaml"
    theirs = YOLO(taught.folder / "final.pt").val(data=str(data), project=str(tmp_path), name="val", **options).box
    ours = figures(measured(taught, data), TWO)
    assert theirs.map50 > 0.3
    wanted = {"map50": theirs.map50, "map5095": theirs.map}
    for i, c in enumerate(theirs.ap_class_index):
        wanted |= {f"ap50/{TWO[c]}": theirs.ap50[i], f"ap5095/{TWO[c]}": theirs.ap[i]}
    assert ours == pytest.approx(wanted, abs=1e-6)
    assert evaluate.evaluate(taught.folder / "final.pt", data, taught.imgsz, "cpu") == pytest.approx(wanted, abs=1e-6)


def test_classes_meet_by_name_and_one_the_weights_do_not_know_has_no_box(
    taught: TrainingSpec, shared: Path, tmp_path: Path
) -> None:
    samples = cells(shared, 24)[4:]
    own = measured(taught, taught.folder / "data.yaml")
    found = measured(taught, write_dataset(tmp_path / "set", samples[:1], samples, CELLS))
    assert found.truths[:, [1, 0]].tolist() == own.truths.tolist()
    assert found.truths[:, 2].sum() > 0
    assert 2 not in found.label
    ours, theirs = figures(found, CELLS), figures(own, TWO)
    for name in TWO:
        assert ours[f"ap5095/{name}"] == pytest.approx(theirs[f"ap5095/{name}"], abs=1e-9)
    assert ours["ap50/Platelets"] == 0

    fewer = measured(taught, write_dataset(tmp_path / "fewer", samples[:1], samples, ("RBC",)))
    assert figures(fewer, ("RBC",))["map50"] == pytest.approx(theirs["ap50/RBC"], abs=1e-9)


def test_rows_are_the_samples_that_can_be_read_in_the_order_of_their_ids(
    taught: TrainingSpec, shared: Path, tmp_path: Path
) -> None:
    # "a 1" comes before "a-0", and its file, a_1, comes after a-0: ultralytics reads in the order of the files
    ten = [replace(s, id=f"a{'- '[i % 2]}{i}") for i, s in enumerate(cells(shared, 14)[4:])]
    torn = TrainingSample("0-torn", tmp_path / "torn.jpg", Label("0-torn", ()))
    torn.image.write_bytes(ten[0].image.read_bytes()[:3000])
    found = measured(taught, write_dataset(tmp_path / "set", ten[:1], [torn, *ten[::-1]], TWO))
    labelled = {s.id: [sum(b.name == name for b in s.label.boxes) for name in TWO] for s in ten}
    assert found.truths.tolist() == [labelled[i] for i in sorted(labelled)]
    assert found.overlap is not None
    assert np.array_equal(found.overlap >= 0.5, found.correct[:, 0])
    assert found.overlap.max() <= 1
    per_class = np.zeros_like(found.truths)
    np.add.at(per_class, (found.image[found.correct[:, 0]], found.label[found.correct[:, 0]]), 1)
    assert (per_class <= found.truths).all()  # so each right box lies in its own image


def test_a_round_measures_each_weights_once_and_leaves_out_what_it_cannot_load(
    taught: TrainingSpec, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline.load()
    from common.yolo import measuring

    coco, broken, gone = shared / "weights/yolo11n-rebuilt.pt", tmp_path / "broken.pt", tmp_path / "gone.pt"
    broken.write_bytes(b"PK\x03\x04 half a file")
    asked: list[Path] = []
    real = measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda path, *rest: asked.append(path) or real(path, *rest))
    spec = replace(taught, measure=(coco, broken, gone))
    before = (taught.folder / "final.pt").read_bytes()
    metrics, notes = training.measure(spec)
    both = matches.load(taught.folder)
    assert set(both) == {files.sha256(coco), files.sha256(taught.folder / "final.pt")}
    assert metrics == figures(both[files.sha256(taught.folder / "final.pt")], TWO)
    assert np.array_equal(both[files.sha256(coco)].truths, next(iter(both.values())).truths)
    assert [str(broken) in notes[0], str(gone) in notes[1], len(notes)] == [True, True, 2]
    assert files.read_json(taught.folder / trainer.PROGRESS)["doing"] == "measuring"  # type: ignore[index]
    assert trainer.progress(taught.folder, alive=True).message == "measuring"

    assert asked == [taught.folder / "final.pt", coco, broken]
    assert training.train(spec) == ""
    assert training.measure(spec) == (metrics, notes)
    assert asked[3:] == [broken]
    assert (taught.folder / "final.pt").read_bytes() == before


def test_a_validation_split_that_cannot_be_read_is_a_note_and_no_failure(
    taught: TrainingSpec, shared: Path, tmp_path: Path
) -> None:
    torn = TrainingSample("torn", tmp_path / "torn.jpg", Label("torn", ()))
    torn.image.write_bytes(b"\xff\xd8\xff\xe0 and no more")
    write_dataset(tmp_path / "set", cells(shared, 1), [torn], TWO)
    (tmp_path / "set/final.pt").symlink_to(taught.folder / "final.pt")
    metrics, notes = training.measure(replace(taught, folder=tmp_path / "set"))
    assert metrics == {}
    assert "can be read" in notes[0]


def test_measuring_says_what_is_missing(taught: TrainingSpec, shared: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=re.escape("not a data.yaml that hardfirst wrote")):
        evaluate.evaluate(taught.base, tmp_path / "data.yaml", 64, "cpu")
    data = write_dataset(tmp_path / "set", cells(shared, 1), [], CELLS)
    with pytest.raises(TrainingError, match="has no validation set"):
        measured(taught, data)
    (tmp_path / "no.pt").write_bytes(b"no")
    with pytest.raises(ModelError, match=re.escape("no.pt")):
        evaluate.evaluate(tmp_path / "no.pt", taught.folder / "data.yaml", 64, "cpu")


def test_a_new_class_joins_and_the_old_ones_are_still_found(taught: TrainingSpec, shared: Path, tmp_path: Path) -> None:
    from common.yolo import weights

    samples, wider = cells(shared, 24), ("Platelets", "RBC", "WBC")
    spec = a_round(tmp_path / "next", taught.folder / "final.pt", wider, samples[:8], samples[4:], 4)
    training.train(spec)
    assert weights.class_names(spec.folder / "final.pt") == wider
    before = figures(measured(taught, taught.folder / "data.yaml"), TWO)
    after, _ = training.measure(spec)
    for name in TWO:
        assert after[f"ap50/{name}"] > 0.6 * before[f"ap50/{name}"] > 0.1


def test_the_weights_that_come_out_do_not_depend_on_the_validation_split(shared: Path, tmp_path: Path) -> None:
    offline.prepare(tmp_path / "home")
    from common.yolo import weights

    samples, base = cells(shared, 12), shared / "weights/yolo11n-rebuilt.pt"
    ends = []
    for name, val in (("without", []), ("with", samples[4:])):
        spec = a_round(tmp_path / name, base, CELLS, samples[:4], val, 2)
        training.train(spec)
        ends.append(weights.load_model(spec.folder / "final.pt").state_dict())
        assert not (spec.folder / "labels/val.cache").exists()
        assert not (spec.folder / "run/weights/best.pt").exists()
    assert all((ends[0][key] == ends[1][key]).all() for key in ends[0])


def test_where_the_memory_is_too_small_it_goes_on_with_smaller_steps(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    offline.prepare(tmp_path / "home")
    offline.load()
    from common.yolo.run import TrainingRun

    real, sizes = TrainingRun.preprocess_batch, []

    def small(run: Any, batch: dict[str, Any]) -> dict[str, Any]:
        sizes.append(len(batch["img"]))
        if sizes[-1] > 1 and run.epoch == run.epochs - 1:  # ultralytics itself backs off in a run's first epoch only
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(run, batch)  # type: ignore[no-any-return]

    monkeypatch.setattr(TrainingRun, "preprocess_batch", small)
    spec = a_round(tmp_path / "round", shared / "weights/yolo11n-rebuilt.pt", CELLS, cells(shared, 4), [], 2)
    assert training.train(replace(spec, imgsz=64)) == ""
    assert sizes[0] == 4
    assert sizes[-1] == 1
    assert "going on with 2 images per step" in caplog.text
    assert (spec.folder / "final.pt").is_file()


def test_a_memory_too_small_for_one_image_is_not_tried_for_ever() -> None:
    tried = []

    def attempt(batch: int) -> None:
        tried.append(batch)
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        training.back_off(attempt, 8, least=2)
    assert tried == [8, 4, 2]
    tried.clear()
    with pytest.raises(ZeroDivisionError):
        training.back_off(lambda _: 1 // 0, 8)
