"""The whole loop on real photographs: a real Label Studio, a real service, real training, people with a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from annotator import BrowserAnnotator

from common.sample.oracle import FolderOracle
from ls_backend.demo.annotator import ScriptedAnnotator
from ls_backend.local_server import LocalLabelStudio
from tests.service import Service

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

CAR = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image" model_score_threshold="0.3">
<Label value="Car" predicted_values="car"/></RectangleLabels></View>"""
CELLS = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image" model_score_threshold="0.3">
<Label value="RBC"/><Label value="WBC"/><Label value="Platelets"/></RectangleLabels></View>"""

Arrive = Callable[[], BrowserAnnotator]


def make_project(server: LocalLabelStudio, title: str, config: str, images: Path, count: int) -> int:
    """A project over the first ``count`` photographs of a folder; returns its id."""
    with server.client() as http:
        made = http.post("/api/projects", json={"title": title, "label_config": config}).raise_for_status()
        project = int(made.json()["id"])
        prefix = server.serve_folder(project, images)
        files = sorted(p.name for p in images.glob("*.jpg"))[:count]
        http.post(f"/api/projects/{project}/import", json=[{"image": prefix + f} for f in files]).raise_for_status()
    return project


def model_versions(server: LocalLabelStudio, project: int) -> str:
    with server.client() as http:
        return str(http.get(f"/api/projects/{project}").json()["model_version"])


@pytest.fixture
def weights(shared: Path) -> dict[str, str]:
    return {"HARDFIRST_MODEL": str(shared / "weights/yolo11n-rebuilt.pt"), "HARDFIRST_IMGSZ": "320"}


def test_annotators_get_the_hardest_image_first_round_after_round(
    label_studio: LocalLabelStudio, annotator: Arrive, shared: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    project = make_project(label_studio, "plates", CAR, shared / "data/plates/images", 24)
    with Service(tmp_path / "home", label_studio, weights) as service:
        service.run("connect", "label-studio", "--project", str(project))
        first = service.await_version(project, "hardfirst@0.1-")
        queue = [item["id"] for item in service.queue(project)["items"]]
        assert len(queue) == 24
        assert model_versions(label_studio, project) == first

        ann, bob = annotator(), annotator()
        assert ann.label_all(project) == queue[0]
        assert {b.label for b in ann.boxes()} == {"Car"}
        ann.picture(tmp_path / "boxes.png")
        assert bob.label_all(project) == queue[1]
        assert ann.submit() == queue[2]
        assert bob.submit() == queue[3]
        assert ann.submit() == queue[4]
        # The fourth label is enough for a round; both keep what they have open.
        assert bob.submit() == queue[5]

        second = service.await_version(project, "hardfirst@1.")
        assert model_versions(label_studio, project) == second
        assert (ann.task, bob.task) == (queue[4], queue[5])
        renewed = [item["id"] for item in service.queue(project)["items"]]
        assert set(renewed) == set(queue[4:])
        unlocked = [t for t in renewed if t not in (queue[4], queue[5])]
        assert ann.submit() == unlocked[0]
        assert bob.submit() == unlocked[1]


def test_boxes_of_labels_the_model_does_not_know_come_after_round_one(
    label_studio: LocalLabelStudio, annotator: Arrive, shared: Path, weights: dict[str, str], tmp_path: Path
) -> None:
    project = make_project(label_studio, "bccd", CELLS, shared / "data/bccd/images", 24)
    oracle = FolderOracle(shared / "data/bccd/labels", ["RBC", "WBC", "Platelets"])
    learning = {"HARDFIRST_UPDATES": "60", "HARDFIRST_BATCH": "4", "HARDFIRST_MIN_NEW_LABELS": "16"}
    with Service(tmp_path / "home", label_studio, {**weights, **learning}) as service:
        service.run("connect", "label-studio", "--project", str(project))
        service.await_version(project, "hardfirst@0.1-")
        ann = annotator()
        served = service.queue(project)["items"]
        assert ann.label_all(project) == served[0]["id"]
        assert ann.boxes() == []
        with label_studio.client() as http:
            assert all(not p["result"] for p in http.get("/api/predictions", params={"project": project}).json())
            script = ScriptedAnnotator(http, project, oracle)
            assert all(script.label_next() for _ in range(16))

        service.await_version(project, "hardfirst@1.", limit_s=420)
        open_task = ann.task
        ann.submit()
        assert ann.task != open_task
        assert ann.task in [i["id"] for i in service.queue(project)["items"]]
        assert len(ann.boxes()) >= 3
        assert "WBC" in {b.label for b in ann.boxes()}
        ann.picture(tmp_path / "after-round-one.png")
