"""The detector on real weights: the same boxes as ultralytics itself, and signals that mean what they say."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.domain import SCORE_FLOOR, Instances, Prediction
from common.errors import ModelError, SettingError
from common.yolo import offline, weights
from common.yolo.detector import YoloDetector
from tests.integration.yolo_home import home_fixture  # noqa: F401 - a fixture

pytestmark = pytest.mark.integration
SIZE = 320


@pytest.fixture(scope="module")
def detector(shared: Path) -> YoloDetector:
    return YoloDetector(shared / "weights/yolo11n-rebuilt.pt", SIZE, "cpu", batch=4)


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Path]:
    return [p for name in ("bccd", "plates") for p in sorted((shared / "data" / name / "images").glob("*.jpg"))[:3]]


def seen(answers: Sequence[Prediction | str]) -> list[Prediction]:
    assert all(isinstance(answer, Prediction) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Prediction)]


def architecture(name: str, folder: Path) -> Path:
    return weights.resolve(name, folder, online=False).path


@pytest.mark.parametrize("name", ["yolo11n-rebuilt.pt", "yolov8n-rebuilt.pt"])
def test_each_image_alone_gives_the_boxes_that_ultralytics_gives_it(
    shared: Path, photos: list[Path], name: str
) -> None:
    from ultralytics import YOLO

    ours = YoloDetector(shared / "weights" / name, SIZE, "cpu", threads=1)
    theirs: Any = YOLO(str(shared / "weights" / name))
    total = 0
    for photo in photos:
        (mine,) = seen(ours.predict([photo]))
        (result,) = theirs.predict(str(photo), imgsz=SIZE, conf=SCORE_FLOOR, device="cpu", verbose=False)
        np.testing.assert_array_equal(mine.instances.boxes, result.boxes.xyxy.numpy())
        np.testing.assert_array_equal(mine.instances.confidence, result.boxes.conf.numpy())
        np.testing.assert_array_equal(mine.instances.scores.argmax(1), result.boxes.cls.numpy())
        assert (mine.height, mine.width) == result.orig_shape
        total += len(mine.instances)
    assert total > 10


def test_an_image_gives_the_same_bits_beside_any_other(detector: YoloDetector, photos: list[Path]) -> None:
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


def test_every_number_of_a_prediction_is_in_its_range(detector: YoloDetector, photos: list[Path]) -> None:
    answers = seen(detector.predict(photos))
    assert {answer.embedding.shape for answer in answers} == {(512,)}
    for answer in answers:
        assert np.isfinite(answer.embedding).all()
        assert answer.doubt.shape == answer.model_change.shape == (80,)
        assert ((answer.doubt >= 0) & (answer.doubt <= SCORE_FLOOR)).all()
        assert answer.doubt.any()
        assert (answer.model_change > 0).all()
        assert answer.instances.scores.shape == (len(answer.instances), 80)
        assert (answer.instances.confidence > SCORE_FLOOR).all()
        assert (np.diff(answer.instances.confidence) <= 0).all()
        assert ((answer.disagreement >= 0) & (answer.disagreement <= 0.25)).all()
        assert answer.disagreement.any()


def test_an_image_that_cannot_be_read_is_one_sentence_in_its_own_place(
    detector: YoloDetector, photos: list[Path], tmp_path: Path
) -> None:
    page, empty, cut = tmp_path / "page.jpg", tmp_path / "empty.png", tmp_path / "cut.png"
    page.write_text("<html>please log in</html>")
    empty.touch()
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    cut.write_bytes((tmp_path / "whole.png").read_bytes()[:40])
    answers = detector.predict([page, photos[0], empty, tmp_path / "gone.jpg", photos[1], cut])
    bad = [answer for answer in answers if isinstance(answer, str)]
    assert [isinstance(answer, str) for answer in answers] == [True, False, True, True, False, True]
    assert ["page.jpg" in bad[0], "empty.png" in bad[1], "gone.jpg is not there" in bad[2], "cut.png" in bad[3]] == [
        True
    ] * 4


def test_a_photo_that_the_camera_held_upright_is_seen_upright(detector: YoloDetector, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 40), "white").save(tmp_path / "turned.jpg", exif=exif)
    (answer,) = seen(detector.predict([tmp_path / "turned.jpg"]))
    assert (answer.width, answer.height) == (40, 80)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_any_colour_mode_is_read(detector: YoloDetector, tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.jpg" if mode in ("L", "CMYK") else "image.png")
    Image.new(mode, (50, 30)).save(path)
    (answer,) = seen(detector.predict([path]))
    assert (answer.width, answer.height) == (50, 30)


def test_nothing_in_nothing_out(detector: YoloDetector) -> None:
    assert detector.predict([]) == []


def test_a_gpu_that_is_too_small_halves_the_batch_and_loses_nothing(
    detector: YoloDetector, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    expected, forward = seen(detector.predict(photos)), detector._forward

    def small(frames: Any) -> Any:
        if len(frames) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(frames)

    monkeypatch.setattr(detector, "_forward", small)
    monkeypatch.setattr(detector, "batch", 4)
    answers = seen(detector.predict(photos))
    assert detector.batch == 1
    assert [len(a.instances) for a in answers] == [len(e.instances) for e in expected]


def test_a_gpu_that_is_too_small_for_one_image_is_a_sentence(
    detector: YoloDetector, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def full(frames: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(detector, "_forward", full)
    monkeypatch.setattr(detector, "batch", 1)
    with pytest.raises(ModelError, match="too small for one image of 320x"):
        detector.predict(photos[:1])


def test_at_most_four_batches_of_images_are_in_memory(
    detector: YoloDetector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(40)]
    for i, path in enumerate(paths):
        Image.new("RGB", (32 + 32 * (i % 7), 224)).save(path)
    decoded, answered, most = 0, 0, 0
    read = detector._reader.read

    def counting_read(path: Path) -> Any:
        nonlocal decoded, most
        decoded += 1
        most = max(most, decoded - answered)
        return read(path)

    def instant_forward(frames: Any) -> list[Prediction]:
        nonlocal answered
        answered += len(frames)
        nothing = Instances(np.zeros((0, 4), np.float32), np.zeros((0, 1), np.float32))
        each, none = np.zeros(1, np.float32), np.zeros(0, np.float32)
        return [Prediction(nothing, np.ones(2, np.float32), each, each, none, f.width, f.height) for f in frames]

    monkeypatch.setattr(detector._reader, "read", counting_read)
    monkeypatch.setattr(detector, "_forward", instant_forward)
    monkeypatch.setattr(detector, "batch", 2)
    assert [a.width for a in seen(detector.predict(paths))] == [32 + 32 * (i % 7) for i in range(40)]
    assert most <= 4 * 2


@pytest.mark.parametrize(("name", "layers"), [("yolo11n", [4, 6, 10]), ("yolov8n", [4, 6, 9]), ("yolo26n", [4, 6, 10])])
def test_the_embedding_is_the_backbones_last_layer_of_each_stride(tmp_path: Path, name: str, layers: list[int]) -> None:
    built = YoloDetector(architecture(f"{name}.pt", tmp_path), 64, "cpu")
    assert [i for i, layer in enumerate(built._network.model) if layer._forward_hooks] == layers


def test_a_network_without_knowledge_has_no_boxes_and_the_same_embedding_every_time(
    tmp_path: Path, photos: list[Path]
) -> None:
    path = architecture("yolo11n.pt", tmp_path)
    (a,), (b,) = (seen(YoloDetector(path, 64, "cpu", seed=3).predict(photos[:1])) for _ in range(2))
    assert len(a.instances) == 0
    np.testing.assert_array_equal(a.embedding, b.embedding)


def test_weights_of_another_task_are_scored_with_but_not_trained_from(tmp_path: Path) -> None:
    offline.load()
    import torch
    from ultralytics.nn.tasks import SegmentationModel

    torch.save({"model": SegmentationModel("yolo11n-seg.yaml", verbose=False)}, tmp_path / "masks.pt")
    with pytest.raises(ModelError, match="Segment"):
        weights.install(tmp_path / "masks.pt", tmp_path / "models")
    assert len(YoloDetector(tmp_path / "masks.pt", 64, "cpu").classes) == 80


def test_a_network_that_has_no_boxes_to_give_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"yolo26n-sem\.yaml is not an architecture of ultralytics for detect"):
        YoloDetector(Path("yolo26n-sem.yaml"), 64, "cpu")


def test_a_device_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(SettingError, match=r"HARDFIRST_DEVICE is '99', but this machine has auto, cpu"):
        offline.device("99")


def test_loading_leaves_the_thread_settings_of_other_libraries_alone(
    detector: YoloDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import subprocess
    import sys

    program = (
        "import os, sys, pathlib; from common.yolo import offline; offline.prepare(pathlib.Path(sys.argv[1])); "
        "offline.load(); sys.exit('OMP_NUM_THREADS' in os.environ)"
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    home = str(Path(os.environ["YOLO_CONFIG_DIR"]).parent)
    assert subprocess.run([sys.executable, "-P", "-c", program, home], check=False).returncode == 0


@pytest.fixture
def signals() -> Any:
    offline.load()
    from common.yolo import signals

    return signals


def test_the_closed_form_is_the_gradient_that_autograd_finds(signals: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Conv2d(7, 3, 1)
    level = signals.Level.of(layer, generator)
    x = torch.randn((5, 7), generator=generator)
    logits = layer(x[:, :, None, None]).flatten(1)
    target = (logits.detach() >= 0).float()
    torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="sum").backward()
    assert layer.weight.grad is not None
    found = signals.gradient(x, level.residual(logits.detach().sigmoid()))
    torch.testing.assert_close(found, layer.weight.grad.square().sum((1, 2, 3)), rtol=1e-4, atol=0)


def test_the_closed_form_holds_for_classes_that_exclude_each_other(signals: Any) -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(7, 3)
    level = signals.Level.of(layer, generator)
    x = torch.randn((1, 7), generator=generator)
    logits = layer(x)
    torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
    assert layer.weight.grad is not None
    found = signals.gradient(x, level.residual(logits.detach().softmax(1)))
    torch.testing.assert_close(found, layer.weight.grad.square().sum(1), rtol=1e-4, atol=0)


def test_a_box_that_is_surely_right_changes_nothing(signals: Any) -> None:
    import torch

    level = signals.Level.of(torch.nn.Conv2d(4, 1, 1), torch.Generator())
    x = torch.ones(1, 4)
    sure, torn = (float(signals.gradient(x, level.residual(torch.tensor([[p]])))) for p in (0.999, 0.5))
    assert sure < 1e-5 < torn


def doubts(signals: Any, boxes: Any, scores: Any, *kept: Any) -> list[list[float]]:
    """Of images with the same anchors, boxes (A, 4) and scores (A, C), that differ in what was kept."""
    best = scores.amax(1).expand(len(kept), -1)
    found = signals.doubts(best, lambda index: boxes[index], lambda index: scores[index].mT, kept, 0.05)
    return [[pytest.approx(value) for value in image] for image in found.tolist()]


def test_doubt_is_each_classs_best_low_score_that_no_kept_box_explains(signals: Any) -> None:
    import torch

    boxes = torch.tensor([[5.0, 5, 15, 15], [6, 5, 16, 15], [45, 45, 55, 55], [78, 78, 82, 82]])
    scores = torch.tensor([[0.9, 0.04], [0.049, 0.048], [0.03, 0.0], [0.01, 0.02]])
    kept = torch.tensor([[5.0, 5, 15, 15]])
    assert doubts(signals, boxes, scores, kept, kept[:0]) == [[0.03, 0.02], [0.049, 0.048]]
    assert doubts(signals, boxes[:2], scores[:2], kept) == [[0, 0]]


def test_doubt_looks_further_where_the_first_candidates_are_explained_and_there_only(signals: Any) -> None:
    import torch

    crowd = signals.CANDIDATES + 5
    boxes = torch.tensor([[5.0, 5, 15, 15]] * crowd + [[45.0, 45, 55, 55]])
    best = torch.linspace(0.049, 0.02, crowd + 1)
    scores = torch.stack([best, torch.zeros(crowd + 1)], dim=1)
    scores[-1, 1] = 0.015
    assert doubts(signals, boxes, scores, boxes[:1], boxes[:0]) == [[0.02, 0.015], [0.049, 0]]


def test_heads_disagree_where_the_evidence_hangs_on_few_channels(signals: Any) -> None:
    import torch

    layer = torch.nn.Conv2d(64, 2, 1)
    torch.nn.init.ones_(layer.weight)
    torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    level = signals.Level.of(layer, torch.Generator().manual_seed(0))
    broad, narrow = torch.full((64,), 1 / 64), torch.zeros(64)
    narrow[:2] = 0.5
    inputs, classes = torch.stack([broad, narrow]), torch.tensor([0, 1])
    spread = level.disagreement(inputs, classes)
    assert float(spread[0]) < float(spread[1])
    mine = level.heads(inputs)[:, [0, 1], classes]
    torch.testing.assert_close(mine.var(dim=0, unbiased=False), spread)


def test_code_in_a_weights_file_does_not_run_and_the_file_is_refused(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    offline.load()
    import torch

    torch.save({"model": Evil()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(ModelError, match="only detection checkpoints") as caught:
            weights.install(tmp_path / name, tmp_path / "models")
        assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "models").iterdir()) == []


def test_a_weights_file_that_is_cut_short_is_refused(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "weights/yolo11n-rebuilt.pt").read_bytes()
    for name, size in (("half.pt", len(whole) // 2), ("empty.pt", 0)):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(ModelError, match="cut short"):
            weights.install(tmp_path / name, tmp_path / "models")
        with pytest.raises(ModelError, match="cut short"):
            weights.resolve(str(tmp_path / name), tmp_path / "models")


def test_weights_that_are_not_numbers_are_refused(shared: Path, tmp_path: Path) -> None:
    import torch

    network = weights.load_model(shared / "weights/yolo11n-rebuilt.pt")
    with torch.no_grad():
        next(network.parameters())[0] = float("nan")
    torch.save({"model": network}, tmp_path / "nan.pt")
    with pytest.raises(ModelError, match="not finite"):
        weights.install(tmp_path / "nan.pt", tmp_path / "models")


def test_good_weights_are_installed_once_under_their_content(shared: Path, tmp_path: Path) -> None:
    source = tmp_path / "final.pt"
    shutil.copyfile(shared / "weights/yolo11n-rebuilt.pt", source)
    path, digest = weights.install(source, tmp_path / "models")
    assert weights.install(source, tmp_path / "models") == (path, digest)
    assert [p.name for p in (tmp_path / "models").iterdir()] == [f"{digest}.pt"]
    assert weights.class_names(path)[:2] == ("person", "bicycle")
    assert weights.resolve(path.name, tmp_path / "models") == weights.Weights(path, "checkpoint", digest)
