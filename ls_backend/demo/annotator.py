"""The scripted annotator: takes the task Label Studio serves next, draws what the oracle says, submits."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import httpx

from common.domain import LabelledBox
from common.errors import PlatformError
from common.sample.oracle import FolderOracle

SECONDS_PER_BOX = 4.0
"""Lead time the script reports: it labels at once, a person would not."""


class ScriptedAnnotator:
    """Labels through Label Studio's own API, in the order served."""

    def __init__(self, http: httpx.Client, project: int, oracle: FolderOracle) -> None:
        self._http = http
        self._project = project
        self._oracle = oracle

    def label_next(self) -> str | None:
        """Label one task; returns its image's name, None when nothing is left."""
        served = self._http.get(f"/api/projects/{self._project}/next")
        if served.status_code == 404:
            return None
        task = served.raise_for_status().json()
        name = image_name(task["data"]["image"])
        boxes = self._oracle.answer(name)
        answer = {"result": [_region(b) for b in boxes], "lead_time": SECONDS_PER_BOX * (1 + len(boxes))}
        sent = self._http.post(f"/api/tasks/{task['id']}/annotations", json=answer)
        if sent.status_code != 201:
            raise PlatformError(f"Label Studio refused the answer for task {task['id']}: {sent.text[:200]}")
        return name


def image_name(uri: str) -> str:
    """'a.jpg' of '/data/local-files/?d=images/a.jpg'."""
    return PurePosixPath(unquote(uri)).name


def _region(box: LabelledBox) -> dict[str, Any]:
    x1, y1, x2, y2 = (100 * v for v in box.xyxy)
    where = {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
    return {
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "value": {**where, "rectanglelabels": [box.name]},
    }
