"""Every task, version and head: box for box what `YOLO.predict` says of that image alone, and every signal with it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.domain import SCORE_FLOOR, Prediction
from common.errors import ModelError
from common.yolo import offline
from common.yolo.detector import YoloDetector
from tests.integration.yolo_home import home_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration
SIZE = 96
CLASSES = 5
SUFFIX = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
CASES = [(v, t, None) for t in SUFFIX for v in ("yolov8n", "yolo11n", "yolo26n")]
END_TO_END: list[tuple[str, str, bool | None]] = [("yolo26n", t, True) for t in SUFFIX if t != "classify"]


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Path]:
    """Two of one shape, one of another."""
    upright = sorted((shared / "data/cards/images").glob("*.jpg"))[:1]
    return [*sorted((shared / "data/bccd/images").glob("*.jpg"))[:2], *upright]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("weights")
    return functools.cache(lambda version, task: build(folder, version, task))


def build(folder: Path, version: str, task: str) -> Path:
    """A checkpoint with seeded weights that sees many boxes: random ones fade to nothing in a deep network."""
    offline.load()
    import torch
    from ultralytics.nn import tasks

    kinds = {
        "detect": tasks.DetectionModel,
        "segment": tasks.SegmentationModel,
        "pose": tasks.PoseModel,
        "obb": tasks.OBBModel,
        "classify": tasks.ClassificationModel,
    }
    torch.manual_seed(0)
    network = kinds[task](f"{version}{SUFFIX[task]}.yaml", nc=CLASSES, verbose=False)
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.rand(4, 3, SIZE, SIZE))
    head = network.model[-1]
    for name in ("cv3", "one2one_cv3"):
        for branch in getattr(head, name, None) or []:
            torch.nn.init.normal_(branch[-1].weight, std=0.1)
            torch.nn.init.constant_(branch[-1].bias, -3.0)
    for name in ("cv2", "one2one_cv2"):
        for branch in getattr(head, name, None) or []:
            torch.nn.init.normal_(branch[-1].bias)
    network.names = {i: f"class {i}" for i in range(CLASSES)}
    network.task, network.args = task, {"task": task}
    path = folder / f"{version}{SUFFIX[task]}.pt"
    torch.save({"model": network.eval()}, path)
    return path


def stock(path: Path, photos: list[Path], *, end_to_end: bool | None) -> list[Any]:
    """What `YOLO.predict` says of each image alone."""
    from ultralytics import YOLO

    extra = {"nms": False} if end_to_end else {}
    limits = {"imgsz": SIZE, "conf": SCORE_FLOOR, "iou": 0.7, "max_det": 300}
    model: Any = YOLO(str(path))
    return [model.predict(str(p), device="cpu", verbose=False, **limits, **extra)[0] for p in photos]


def seen(answers: list[Prediction | str]) -> list[Prediction]:
    assert all(isinstance(answer, Prediction) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Prediction)]


def assert_equal(task: str, mine: Prediction, theirs: Any) -> int:
    """Bit for bit; returns the number of boxes."""
    i = mine.instances
    assert (mine.height, mine.width) == theirs.orig_shape
    if task == "classify":
        np.testing.assert_array_equal(i.scores, theirs.probs.data.numpy()[None])
        np.testing.assert_array_equal(i.boxes, [[0, 0, mine.width, mine.height]])
        return len(i)
    boxes = theirs.obb if task == "obb" else theirs.boxes
    np.testing.assert_array_equal(i.boxes, boxes.xyxy.numpy())
    np.testing.assert_array_equal(i.confidence, boxes.conf.numpy())
    np.testing.assert_array_equal(i.scores.argmax(1), boxes.cls.numpy())
    if task == "obb":
        np.testing.assert_array_equal(i.rotated, boxes.xywhr.numpy())
    if task == "pose":
        np.testing.assert_array_equal(i.keypoints, theirs.keypoints.data.numpy())
    if task == "segment":
        assert i.polygons is not None
        for polygon, other in zip(i.polygons, theirs.masks.xy, strict=True):
            np.testing.assert_array_equal(polygon, other)
    return len(i)


@pytest.mark.parametrize(("version", "task", "end_to_end"), [*CASES, *END_TO_END])
def test_a_batch_gives_each_image_what_predict_gives_it_alone(
    checkpoint: Any, photos: list[Path], version: str, task: str, end_to_end: bool | None
) -> None:
    path = checkpoint(version, task)
    detector = YoloDetector(path, SIZE, "cpu", threads=1, reduced_decode=False, end_to_end=end_to_end)
    answers = seen(detector.predict(photos))
    theirs = stock(path, photos, end_to_end=end_to_end)
    total = sum(assert_equal(task, *pair) for pair in zip(answers, theirs, strict=True))
    assert total >= (len(photos) if task == "classify" else 5)
    for answer in answers:
        assert answer.instances.scores.shape[1] == CLASSES
        assert np.isfinite(answer.embedding).all()
        assert len(answer.embedding) == (448 if version == "yolov8n" else 512)
        assert answer.model_change.shape == answer.doubt.shape == (CLASSES,)
        assert bool(answer.model_change.any()) == bool(answer.disagreement.any()) == (len(answer.instances) > 0)
        assert ((answer.disagreement >= 0) & (answer.disagreement <= 0.25 + 1e-6)).all()
        assert ((answer.doubt >= 0) & (answer.doubt <= SCORE_FLOOR)).all()


@pytest.mark.parametrize(("task", "end_to_end"), [("segment", None), ("obb", True), ("classify", None)])
def test_an_image_gives_the_same_bits_beside_any_other(
    checkpoint: Any, photos: list[Path], task: str, end_to_end: bool | None
) -> None:
    detector = YoloDetector(checkpoint("yolo26n", task), SIZE, "cpu", threads=2, end_to_end=end_to_end)
    together = seen(detector.predict([*photos, *reversed(photos)]))
    for place, photo in enumerate(photos):
        (alone,) = seen(detector.predict([photo]))
        for beside in (together[place], together[-1 - place]):
            assert_same(alone, beside)


def tensors(found: Any) -> list[Any]:
    """Every tensor that a network returned, copied."""
    if isinstance(found, dict | list | tuple):
        return [t for each in (found.values() if isinstance(found, dict) else found) for t in tensors(each)]
    return [found.clone()]


@pytest.mark.parametrize(
    ("version", "task", "end_to_end", "shape"),
    [
        ("yolov8n", "detect", None, (96, 96)),
        ("yolov8n", "pose", None, (96, 64)),
        ("yolo11n", "segment", None, (96, 96)),
        ("yolo11n", "obb", None, (96, 96)),
        ("yolo11n", "classify", None, (160, 128)),
        ("yolo26n", "detect", True, (160, 128)),
        ("yolo26n", "obb", None, (160, 128)),
    ],
)
def test_a_batch_on_any_threads_equals_single_images_on_one(
    checkpoint: Any, version: str, task: str, end_to_end: bool | None, shape: tuple[int, int]
) -> None:
    """At sizes whose maps fill no whole vectors."""
    offline.load()
    import torch

    from common.yolo import exact, network

    loaded = network.load(checkpoint(version, task), 0)
    ready = network.for_inference(loaded, torch.device("cpu"), half=False, end_to_end=end_to_end)
    exact.make_exact(ready)
    x = torch.rand((8, 3, *shape), generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with torch.inference_mode():
            alone = [tensors(ready(one.contiguous(memory_format=torch.channels_last))) for one in x.split(1)]
            for size, threads in ((2, 1), (8, 1), (5, 2), (8, 3)):
                torch.set_num_threads(threads)
                together = tensors(ready(x[:size].contiguous(memory_format=torch.channels_last)))
                for i in range(size):
                    same = [torch.equal(all_[i : i + 1], one) for all_, one in zip(together, alone[i], strict=True)]
                    assert all(same), f"image {i} of {size} on {threads} threads"
    finally:
        torch.set_num_threads(before)


def assert_same(a: Prediction, b: Prediction) -> None:
    for name in ("boxes", "scores", "rotated", "keypoints"):
        np.testing.assert_array_equal(getattr(a.instances, name), getattr(b.instances, name))
    for name in ("embedding", "disagreement", "doubt", "model_change"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_an_anchor_that_is_named_twice_stands_for_one_class_each_time() -> None:
    """An end-to-end head chooses among anchors and classes; ours is the best score of a row."""
    offline.load()
    import torch

    from common.yolo.heads import _told_once

    scores = torch.tensor([[0.9, 0.6, 0.1], [0.7, 0.7, 0.2], [0.9, 0.6, 0.1]])
    rows = torch.tensor([[0.0, 0, 1, 1, 0.9, 0], [0, 0, 1, 1, 0.7, 1], [0, 0, 1, 1, 0.6, 1]])
    told = _told_once(scores, torch.tensor([4, 8, 4]), rows)
    assert told.argmax(1).tolist() == [0, 1, 1]
    torch.testing.assert_close(told.amax(1), rows[:, 4])
    torch.testing.assert_close(told, torch.tensor([[0.9, 0.6, 0.1], [0.7, 0.7, 0.2], [0.0, 0.6, 0.1]]))


@pytest.mark.parametrize("task", ["detect", "obb"])
def test_a_slow_machine_is_no_reason_for_an_empty_image(
    checkpoint: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    """Ultralytics stops suppressing after a while and says nothing about the images that are left."""
    from ultralytics.utils import nms

    class Crawling:
        """Each look at the clock takes an hour."""

        now = 0.0

        @classmethod
        def time(cls) -> float:
            cls.now += 3600.0
            return cls.now

    detector = YoloDetector(checkpoint("yolo11n", task), SIZE, "cpu", reduced_decode=False)
    same = [photos[0]] * 3
    expected = [len(a.instances) for a in seen(detector.predict(same))]
    monkeypatch.setattr(nms, "time", Crawling)
    (first, *rest) = stock(checkpoint("yolo11n", task), same[:1], end_to_end=None)
    assert not rest
    assert expected[0] == len(first.obb if task == "obb" else first.boxes) > 0
    assert [len(a.instances) for a in seen(detector.predict(same))] == expected


def test_a_head_that_is_not_there_is_a_sentence(checkpoint: Any) -> None:
    with pytest.raises(ModelError, match="only the other kind of head"):
        YoloDetector(checkpoint("yolo11n", "detect"), SIZE, "cpu", end_to_end=True)


def test_members_answer_in_the_classes_of_the_detector(checkpoint: Any, photos: list[Path], tmp_path: Path) -> None:
    import torch

    loaded = torch.load(checkpoint("yolov8n", "detect"), weights_only=False)
    loaded["model"].names = {0: "class 3", 1: "class 1", 2: "other", 3: "class 4", 4: "class 2"}
    torch.save(loaded, tmp_path / "member.pt")
    paths = [checkpoint("yolov8n", "detect"), tmp_path / "member.pt"]
    detector = YoloDetector(checkpoint("yolov8n", "detect"), SIZE, "cpu", members=paths, views=("flip", "heads"))
    for answer in seen(detector.predict(photos)):
        assert answer.committee is not None
        assert answer.flip_iou is not None
        same, renamed = answer.committee[-2:]
        np.testing.assert_allclose(same, answer.instances.scores, atol=1e-6)
        np.testing.assert_allclose(renamed[:, [3, 1, 4, 2]], answer.instances.scores[:, [0, 1, 3, 4]], atol=1e-6)
        assert not renamed[:, 0].any()


def test_a_member_of_another_task_is_refused(checkpoint: Any) -> None:
    with pytest.raises(ModelError, match="another task"):
        YoloDetector(checkpoint("yolov8n", "detect"), SIZE, "cpu", members=[checkpoint("yolov8n", "obb")])
