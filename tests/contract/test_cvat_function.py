"""The auto-annotation function, driven by cvat-sdk and cvat-cli over the stand-in CVAT."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cvat_sdk import auto_annotation
from cvat_sdk.core.client import AccessTokenCredentials, Client, Config
from PIL import Image

from common.domain import Instances, Prediction
from common.errors import ModelError, SettingError, UnreadableImageError
from cvat_adapter import function
from cvat_adapter.function import Function, create
from tests.cvat_server.records import Task
from tests.cvat_server.server import FakeCvat
from tests.unit.media_platform import image

FILE = Path(function.__file__)


@dataclass
class FewBoxes:
    """Finds the same boxes in every image: (x1, y1, x2, y2, score of each class); remembers what it saw."""

    classes: tuple[str, ...] = ("car", "bus")
    rows: Sequence[tuple[float, ...]] = ((1, 2, 30, 20, 0.9, 0.1), (5, 5, 20, 20, 0.2, 0.4))
    problem: str = ""
    seen: list[Image.Image] = field(default_factory=list)

    def predict(self, paths: Sequence[Path]) -> list[Prediction | str]:
        with Image.open(paths[0]) as file:
            self.seen.append(file.copy())
        if self.problem:
            return [self.problem]
        array = np.array(self.rows, np.float32).reshape(-1, 4 + len(self.classes))
        n, none = len(array), np.zeros(len(self.classes), np.float32)
        instances = Instances(array[:, :4], array[:, 4:])
        width, height = self.seen[-1].size
        return [Prediction(instances, np.zeros(3, np.float32), none, none, np.zeros(n, np.float32), width, height)]


def detect(detector: FewBoxes, picture: Image.Image | None = None, threshold: float | None = None) -> list[Any]:
    context = SimpleNamespace(frame_name="a.jpg", conf_threshold=threshold, conv_mask_to_poly=False)
    return Function(detector, conf=0.3).detect(context, picture or Image.open(BytesIO(image())))


def drawn(shapes: Sequence[Any]) -> list[tuple[int, list[float], float]]:
    return [(one.label_id, one.points, round(one.score, 3)) for one in shapes]


def test_the_labels_are_the_models_classes() -> None:
    spec = Function(FewBoxes(), conf=0.3).spec
    assert [(one.name, one.id, one.type) for one in spec.labels] == [("car", 0, "rectangle"), ("bus", 1, "rectangle")]


def test_each_box_has_its_best_class_and_that_ones_confidence() -> None:
    assert drawn(detect(FewBoxes())) == [(0, [1, 2, 30, 20], 0.9), (1, [5, 5, 20, 20], 0.4)]


@pytest.mark.parametrize(("threshold", "count"), [(None, 2), (0.0, 3), (0.4, 2), (0.5, 1), (0.95, 0)])
def test_the_callers_threshold_goes_before_our_own(threshold: float | None, count: int) -> None:
    rows = ((1, 2, 30, 20, 0.9, 0.1), (5, 5, 20, 20, 0.2, 0.4), (5, 5, 20, 20, 0.2, 0.1))
    assert len(detect(FewBoxes(rows=rows), threshold=threshold)) == count


def test_boxes_are_cut_at_the_edges_and_those_outside_are_left_out() -> None:
    rows = ((-5, -5, 100, 100, 0.9, 0.1), (70, 10, 90, 20, 0.9, 0.1))
    assert drawn(detect(FewBoxes(rows=rows))) == [(0, [0, 0, 60, 40], 0.9)]


def test_the_detector_sees_the_upright_image_that_cvat_shows() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    lying = Image.open(BytesIO(image(60, 40, "JPEG", exif=exif)))
    detector = FewBoxes(rows=((0, 0, 100, 100, 0.9, 0.1),))
    assert drawn(detect(detector, lying)) == [(0, [0, 0, 40, 60], 0.9)]
    assert detector.seen[0].size == (40, 60)
    assert 0x0112 not in detector.seen[0].getexif()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_the_detector_gets_the_pixels_as_they_are(mode: str) -> None:
    picture = Image.open(BytesIO(image())).convert(mode)
    detector = FewBoxes()
    detect(detector, picture)
    assert np.array_equal(np.array(detector.seen[0].convert("RGB")), np.array(picture.convert("RGB")))


def test_an_image_the_detector_cannot_read_is_named() -> None:
    with pytest.raises(UnreadableImageError, match=r"a\.jpg: the image cannot be decoded"):
        detect(FewBoxes(problem="the image cannot be decoded"))


@pytest.mark.parametrize("conf", [-0.1, 1.5])
def test_a_confidence_that_is_none_is_refused(conf: float) -> None:
    with pytest.raises(SettingError, match=f"conf is {conf}: it must be from 0 to 1"):
        create(conf=conf)


def test_missing_weights_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no weights 'yolo11n\.pt': give model a path, or put the file into"):
        create(model="yolo11n.pt")


def test_loading_the_file_reads_no_weights_and_no_settings(tmp_path: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(FILE)!r}); assert not {{'torch', 'ultralytics'}} & set(sys.modules)"
    environment = {**os.environ, "HARDFIRST_IMGSZ": "not a number", "PYTHONPATH": str(FILE.parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)


# --- over the stand-in -----------------------------------------------------------------------------------


@dataclass
class Site:
    """A running stand-in with one project, and how its owner signs in."""

    cvat: FakeCvat
    token: str
    cache: Path

    def task(self, labels: Sequence[Any], pictures: Sequence[bytes]) -> Task:
        boss = self.cvat.world.users[1]
        project = self.cvat.add_project("cars", labels, owner=boss)
        return self.cvat.add_task(project, "pool", [(f"{n}.jpg", data) for n, data in enumerate(pictures)])

    def shapes(self, task: Task) -> list[dict[str, Any]]:
        return [shape for job in self.cvat.jobs(task) for shape in job.shapes]

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "CVAT_ACCESS_TOKEN": self.token,
            "XDG_CACHE_HOME": str(self.cache),
            "HARDFIRST_HOME": str(self.cache / "home"),
            "HARDFIRST_DEVICE": "cpu",
            "PYTHONPATH": str(FILE.parents[1]),
        }
        address = ["--server-host", "http://127.0.0.1", "--server-port", str(self.cvat.port)]
        return subprocess.run(
            [sys.executable, "-m", "cvat_cli", *address, *words],
            env=environment,
            cwd=self.cache,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with FakeCvat() as cvat:
        yield Site(cvat, cvat.add_token(cvat.add_user("boss")), tmp_path)


@pytest.fixture
def client(site: Site) -> Iterator[Client]:
    with Client(site.cvat.url, config=Config(cache_dir=site.cache / "sdk"), check_server_version=False) as made:
        made.login(AccessTokenCredentials(site.token))
        yield made


def test_the_sdk_writes_our_boxes_as_automatic_shapes_with_their_confidence(site: Site, client: Client) -> None:
    task = site.task(["bus", {"name": "car", "type": "any"}], [image(seed=1), image(seed=2)])
    auto_annotation.annotate_task(client, task.id, Function(FewBoxes(), conf=0.3), conf_threshold=0.5)
    car = next(one.id for one in site.cvat.world.labels.values() if one.name == "car")
    assert [(s["frame"], s["type"], s["label_id"], s["points"], s["source"]) for s in site.shapes(task)] == [
        (0, "rectangle", car, [1, 2, 30, 20], "auto"),
        (1, "rectangle", car, [1, 2, 30, 20], "auto"),
    ]
    assert [s["score"] for s in site.shapes(task)] == pytest.approx([0.9, 0.9])


def test_classes_that_the_project_does_not_have_are_left_out_when_asked(site: Site, client: Client) -> None:
    task = site.task(["bus"], [image()])
    ours = Function(FewBoxes(), conf=0.3)
    with pytest.raises(auto_annotation.BadFunctionError, match="label 'car' is not in dataset"):
        auto_annotation.annotate_task(client, task.id, ours)
    auto_annotation.annotate_task(client, task.id, ours, allow_unmatched_labels=True)
    assert [s["points"] for s in site.shapes(task)] == [[5, 5, 20, 20]]


@pytest.mark.integration
def test_the_command_of_cvat_annotates_a_task_with_our_detector(
    site: Site, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = shared / "data/plates/images/dayride_type1_001_t1071.jpg"
    weights = str((shared / "weights/yolo11n-rebuilt.pt").resolve())
    task = site.task(["car"], [photo.read_bytes()])
    ran = site.cli(
        *("task", "auto-annotate", str(task.id), "--function-file", str(FILE), "--allow-unmatched-labels"),
        *("-p", f"model=str:{weights}", "-p", "conf=float:0.3", "-p", "imgsz=int:320"),
    )
    assert ran.returncode == 0, ran.stderr
    monkeypatch.setenv("HARDFIRST_HOME", str(site.cache / "home"))
    said = create(model=weights, imgsz=320, device="cpu")._detector.predict([photo])[0]
    assert isinstance(said, Prediction)
    cars = said.instances.scores[:, 2] >= 0.3  # class 2 of COCO
    assert cars.sum() == 2
    assert [shape["source"] for shape in site.shapes(task)] == ["auto"] * 2
    assert [s["points"] for s in site.shapes(task)] == [
        pytest.approx(b, abs=0.1) for b in said.instances.boxes[cars].tolist()
    ]
    assert [s["score"] for s in site.shapes(task)] == pytest.approx(said.instances.scores[cars, 2].tolist(), abs=0.01)


@pytest.mark.integration
def test_the_module_works_as_a_function_too(site: Site, shared: Path) -> None:
    task = site.task(["car"], [image(64, 64)])
    ran = site.cli(
        *("task", "auto-annotate", str(task.id), "--function-module", "cvat_adapter.function"),
        *("-p", f"model=str:{(shared / 'weights/yolo11n-rebuilt.pt').resolve()}", "--conf-threshold", "0.9"),
    )
    assert "label 'person' is not in dataset" in ran.stderr
    assert site.shapes(task) == []
