"""OpenVINO in torch's place: the same answers, or torch itself and one line why."""

from __future__ import annotations

import importlib.util
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.domain import SCORE_FLOOR, Prediction
from common.yolo import weights
from common.yolo.detector import YoloDetector
from tests.integration.yolo_home import home_fixture  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed"),
]
SIZE = 320
ATOL = 1e-3
Load = Callable[..., YoloDetector]


@pytest.fixture(scope="module")
def yolo11(shared: Path) -> Path:
    return shared / "weights/yolo11n-rebuilt.pt"


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Path]:
    return [p for name in ("bccd", "plates") for p in sorted((shared / "data" / name / "images").glob("*.jpg"))[:4]]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An architecture: converted in a second."""
    return weights.resolve("yolov8n.yaml", tmp_path, online=False).path


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def loaded(path: Path, imgsz: int = 64, engine: str = "openvino", **wanted: Any) -> YoloDetector:
        wanted = {"threads": 1, **wanted}
        return YoloDetector(path, imgsz, "cpu", engine=engine, converted=tmp_path / "converted", **wanted)

    return loaded


def seen(answers: Sequence[Prediction | str]) -> list[Prediction]:
    assert all(isinstance(answer, Prediction) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Prediction)]


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "common.yolo.openvino" and r.levelno >= logging.INFO]


def assert_close(mine: Prediction, theirs: Prediction) -> int:
    """Boxes that are clearly over the floor are there, in the network's pixels; how many."""
    clear = np.flatnonzero(theirs.instances.confidence > SCORE_FLOOR + ATOL)
    scale = max(theirs.width, theirs.height) / SIZE
    for i in clear:
        distance = np.abs(mine.instances.boxes - theirs.instances.boxes[i]).max(1) / scale
        scores = np.abs(mine.instances.scores - theirs.instances.scores[i]).max(1)
        side = (theirs.instances.boxes[i, 2:] - theirs.instances.boxes[i, :2]).max() / scale
        same = (distance <= ATOL * (1 + side / 100)) & (scores <= ATOL)
        assert same.sum() == 1
        (place,) = np.flatnonzero(same)
        assert mine.disagreement[place] == pytest.approx(theirs.disagreement[i], abs=ATOL)
    assert abs(len(mine.instances) - len(theirs.instances)) <= len(theirs.instances) - len(clear)
    np.testing.assert_allclose(mine.embedding, theirs.embedding, atol=ATOL)
    np.testing.assert_allclose(mine.doubt, theirs.doubt, atol=ATOL)
    np.testing.assert_allclose(mine.model_change, theirs.model_change, rtol=ATOL, atol=ATOL)
    return len(clear)


@pytest.mark.parametrize("name", ["yolo11n-rebuilt.pt", "yolov8n-rebuilt.pt"])
def test_every_number_is_torchs_within_a_thousandth(shared: Path, photos: list[Path], load: Load, name: str) -> None:
    ours, theirs = (load(shared / "weights" / name, SIZE, engine) for engine in ("openvino", "torch"))
    assert (ours.engine, theirs.engine) == ("openvino", "torch")
    pairs = zip(seen(ours.predict(photos)), seen(theirs.predict(photos)), strict=True)
    assert sum(assert_close(mine, other) for mine, other in pairs) > 20


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml"])
def test_each_family_is_equal_in_every_output(tmp_path: Path, load: Load, photos: list[Path], name: str) -> None:
    path = weights.resolve(name, tmp_path, online=False).path
    detector = load(path, 160, seed=3)
    assert detector.engine == "openvino"
    (verdicts,) = (tmp_path / "converted").glob("*/verdicts.json")
    ((verdict,),) = [json.loads(verdicts.read_text()).values()]
    assert 0 < verdict["difference"] <= ATOL
    (mine,), (theirs,) = (seen(d.predict(photos[:1])) for d in (detector, load(path, 160, "torch", seed=3)))
    np.testing.assert_allclose(mine.embedding, theirs.embedding, atol=ATOL)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_gives_the_same_bits_beside_any_other(
    yolo11: Path, photos: list[Path], load: Load, threads: int
) -> None:
    detector = load(yolo11, SIZE, batch=4, threads=threads)
    together = seen(detector.predict([*photos, *reversed(photos)]))
    for place, photo in enumerate(photos):
        (alone,) = seen(detector.predict([photo]))
        for beside in (together[place], together[-1 - place]):
            np.testing.assert_array_equal(beside.instances.boxes, alone.instances.boxes)
            np.testing.assert_array_equal(beside.instances.scores, alone.instances.scores)
            np.testing.assert_array_equal(beside.embedding, alone.embedding)
            np.testing.assert_array_equal(beside.disagreement, alone.disagreement)
            np.testing.assert_array_equal(beside.doubt, alone.doubt)
            np.testing.assert_array_equal(beside.model_change, alone.model_change)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_image_gives_the_same_bits_before_and_after_its_size_has_a_model_of_its_own(
    yolo11: Path, shared: Path, load: Load, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    from common.yolo import sizes

    photos = sorted((shared / "data/bccd/images").glob("*.jpg"))[:11]
    detector = load(yolo11, SIZE, batch=11, threads=threads)
    before = seen(detector.predict(photos))
    monkeypatch.setattr(sizes, "OFTEN", 1)
    after = seen(detector.predict(photos))
    (own,) = detector._network._model._own.values()
    assert own is not None
    for mine, other in zip(after, before, strict=True):
        for part in ("embedding", "disagreement", "doubt", "model_change"):
            np.testing.assert_array_equal(getattr(mine, part), getattr(other, part))
        np.testing.assert_array_equal(mine.instances.boxes, other.instances.boxes)
        np.testing.assert_array_equal(mine.instances.scores, other.instances.scores)


@pytest.mark.parametrize("often", [1, 1 << 40])
def test_more_looks_are_torchs_too(
    yolo11: Path, photos: list[Path], load: Load, monkeypatch: pytest.MonkeyPatch, often: int
) -> None:
    monkeypatch.setattr("common.yolo.sizes.OFTEN", often)
    views = ("flip", "half", "heads")
    ours, theirs = (load(yolo11, SIZE, engine, views=views) for engine in ("openvino", "torch"))
    for mine, other in zip(seen(ours.predict(photos)), seen(theirs.predict(photos)), strict=True):
        assert mine.committee is not None
        assert other.committee is not None
        assert mine.committee.shape == other.committee.shape
        np.testing.assert_allclose(mine.committee, other.committee, atol=ATOL)
        np.testing.assert_allclose(mine.flip_iou, other.flip_iou, atol=ATOL)


def test_the_members_of_a_committee_are_asked_the_same_way(yolo11: Path, photos: list[Path], load: Load) -> None:
    (answer,) = seen(load(yolo11, SIZE, members=[yolo11]).predict(photos[:1]))
    assert answer.committee is not None
    np.testing.assert_array_equal(answer.committee[-1], answer.instances.scores)


def test_what_a_call_was_given_stays_as_it_was(small: Path, load: Load) -> None:
    import torch

    run = load(small)._network
    large, tiny = torch.rand(3, 3, 64, 96), torch.rand(1, 3, 32, 64)
    kept = large.clone()
    for x in (large, tiny, large):
        run(x)
    assert torch.equal(large, kept)


def test_the_converted_model_is_used_again_and_made_again_when_it_is_broken(
    small: Path, tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.yolo import openvino

    made, write = [], openvino._write

    def counting(folder: Path, *rest: Any) -> None:
        made.append(folder)
        write(folder, *rest)

    monkeypatch.setattr(openvino, "_write", counting)
    assert [load(small).engine for _ in range(2)] == ["openvino"] * 2
    assert len(made) == 1
    (place,) = (tmp_path / "converted").iterdir()
    whole = (place / "model.bin").read_bytes()
    (place / "model.bin").write_bytes(whole[: len(whole) // 2])
    assert load(small).engine == "openvino"
    assert len(made) == 2
    assert (place / "model.bin").stat().st_size == len(whole)


def test_only_the_newest_converted_models_stay(
    small: Path, tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.yolo.openvino.KEEP", 2)
    seen_so_far: list[set[Path]] = []
    for seed in range(3):
        load(small, seed=seed)
        seen_so_far.append(set((tmp_path / "converted").iterdir()))
    assert [len(places) for places in seen_so_far] == [1, 2, 2]
    assert not seen_so_far[0] & seen_so_far[2]


KILLED = """
import os, signal, sys
from pathlib import Path
from common.yolo import offline
offline.prepare(Path(sys.argv[1])); offline.load()
from common.yolo import openvino
from common.yolo.detector import YoloDetector
ov = openvino._library()
save = ov.save_model
def killed(model, path, **options):
    save(model, path, **options)
    Path(path).with_suffix(".bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
ov.save_model = killed
YoloDetector(Path(sys.argv[2]), 64, "cpu", threads=1, engine="openvino", converted=Path(sys.argv[3]))
"""


def test_a_kill_during_the_conversion_leaves_no_model_that_could_be_found(
    home: Path, small: Path, tmp_path: Path, load: Load
) -> None:
    command = [sys.executable, "-P", "-c", KILLED, str(home), str(small), str(tmp_path / "converted")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == -signal.SIGKILL
    (left,) = (tmp_path / "converted").iterdir()
    assert left.name.startswith(".")
    assert load(small).engine == "openvino"


def test_a_model_that_another_process_put_there_meanwhile_stays(
    small: Path, tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    from common.yolo import openvino

    load(small)
    (place,) = (tmp_path / "converted").iterdir()
    looked = openvino._whole
    answers = iter([False])
    monkeypatch.setattr(openvino, "_whole", lambda p: next(answers, None) is None and looked(p))
    before = (place / "model.xml").stat().st_ino
    assert load(small).engine == "openvino"
    assert (place / "model.xml").stat().st_ino == before
    assert list((tmp_path / "converted").iterdir()) == [place]


@pytest.mark.parametrize("broken", ["facts", "file"])
def test_a_place_that_holds_no_whole_model_is_taken(small: Path, tmp_path: Path, load: Load, broken: str) -> None:
    load(small)
    (place,) = (tmp_path / "converted").iterdir()
    if broken == "facts":
        (place / "facts.json").write_text("{}")
        (place / "model.xml").write_text("no model")
    else:
        place.rename(tmp_path / "elsewhere")
        place.write_text("a file")
    assert load(small).engine == "openvino"
    assert list((tmp_path / "converted").iterdir()) == [place]


@pytest.mark.parametrize(
    "verdict",
    [1, None, {}, {"difference": 0.0, "torch_ms": 1.0}, {"difference": "0", "torch_ms": 1.0, "openvino_ms": 1.0}],
)
def test_a_verdict_without_its_numbers_is_asked_again(small: Path, tmp_path: Path, load: Load, verdict: Any) -> None:
    load(small)
    (path,) = (tmp_path / "converted").glob("*/verdicts.json")
    (name,) = json.loads(path.read_text())
    path.write_text(json.dumps({name: verdict}))
    assert load(small).engine == "openvino"
    assert set(json.loads(path.read_text())[name]) == {"difference", "torch_ms", "openvino_ms"}


def missing(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "openvino", None)
    return "the package is not installed"


def failing(monkeypatch: pytest.MonkeyPatch) -> str:
    from common.yolo import openvino

    def fails(*_: Any) -> None:
        raise RuntimeError("an operation it does not know")

    monkeypatch.setattr(openvino, "_write", fails)
    return "RuntimeError: an operation it does not know"


def unequal(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("common.yolo.openvino.EQUAL", 1e-12)
    return "its answers differ by"


def slower(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("common.yolo.openvino._cpu_ms", lambda _work: 8.0)
    return "it needs 4.0 ms per image here, torch 4.0 ms"


@pytest.mark.parametrize("break_it", [missing, failing, unequal, slower])
def test_torch_answers_and_one_line_says_why(
    small: Path,
    photos: list[Path],
    tmp_path: Path,
    load: Load,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    break_it: Callable[[pytest.MonkeyPatch], str],
) -> None:
    why = break_it(monkeypatch)
    caplog.set_level(logging.INFO)
    detector = load(small, engine="auto")
    assert detector.engine == "torch"
    (line,) = reasons(caplog)
    assert line.startswith("scoring yolov8n.yaml with torch, not with OpenVINO: ")
    assert why in line
    (mine,), (theirs,) = (seen(d.predict(photos[:1])) for d in (detector, load(small, engine="torch")))
    np.testing.assert_array_equal(mine.embedding, theirs.embedding)


def test_whoever_asks_for_it_by_name_has_it_also_where_it_is_slower(
    small: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower(monkeypatch)
    assert load(small).engine == "openvino"


@pytest.mark.parametrize(("name", "wanted"), [("yolo11n-seg", {}), ("yolo26n", {"end_to_end": True})])
def test_other_heads_stay_with_torch(
    tmp_path: Path, load: Load, caplog: pytest.LogCaptureFixture, name: str, wanted: dict[str, bool]
) -> None:
    path = tmp_path / f"{name}.yaml"
    family = name.replace("11n", "11").replace("26n", "26")
    spec = importlib.util.find_spec("ultralytics")
    assert spec is not None
    (shipped,) = Path(str(spec.submodule_search_locations[0])).rglob(f"{family}.yaml")  # type: ignore[index]
    path.write_bytes(shipped.read_bytes())
    assert load(path, **wanted).engine == "torch"
    (line,) = reasons(caplog)
    assert "upright boxes with suppression only" in line


def test_nothing_is_reported_to_anybody(small: Path, load: Load) -> None:
    program = (
        "import sys, pathlib; from common.yolo import offline; offline.prepare(pathlib.Path(sys.argv[1])); "
        "offline.load(); from common.yolo import openvino; openvino._library(); import openvino.tools.ovc; "
        "sys.exit(sys.modules['openvino_telemetry'] is not None)"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program, str(small.parent)], check=False).returncode == 0
