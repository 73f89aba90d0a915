"""Annotators and managers as they act in CVAT's browser pages: over HTTP, with their own login."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from tests.cvat_server.faults import PERSON

Json = dict[str, Any]


class Person:
    """Somebody logged in with a password. Refusals come as `httpx.HTTPStatusError`. Close it, or use `with`."""

    def __init__(self, url: str, username: str, password: str, organization: str) -> None:
        self.username = username
        headers = {PERSON: username, "X-Organization": organization}
        self._http = httpx.Client(base_url=url, headers=headers, trust_env=False, verify=False)
        login = {"username": username, "password": password}
        self.call("POST", "/api/auth/login", json=login)
        self._http.headers["X-CSRFToken"] = self._http.cookies["csrftoken"]
        self.id: int = self.call("GET", "/api/users/self")["id"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def call(self, method: str, path: str, **what: Any) -> Any:
        """One request; the JSON of its answer, None where there is none."""
        answer = self._http.request(method, path, **what)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def jobs(self) -> list[Json]:
        """The person's Jobs page: the newest first."""
        found: list[Json] = self.call("GET", "/api/jobs", params={"page_size": 100})["results"]
        return found

    def open(self, job_id: int) -> OpenJob:
        """Opens a job in the editor."""
        return OpenJob.load(self, job_id)

    def set_state(self, job_id: int, state: str, **more: Any) -> Json:
        found: Json = self.call("PATCH", f"/api/jobs/{job_id}", json={"state": state, **more})
        return found


class Annotator(Person):
    """A worker: sees and edits his own jobs."""

    def annotate(self, job_id: int, boxes: list[tuple[int, int, list[float]]]) -> None:
        """Opens a job, draws boxes (frame, label id, xyxy pixels) and finishes it."""
        editor = self.open(job_id)
        for frame, label_id, points in boxes:
            editor.draw(frame, label_id, points)
        editor.finish()


class Manager(Person):
    """An owner or maintainer: assigns jobs and judges them."""

    def assign(self, job_id: int, user_id: int | None) -> Json:
        found: Json = self.call("PATCH", f"/api/jobs/{job_id}", json={"assignee": user_id})
        return found

    def reject(self, job_id: int) -> Json:
        return self.set_state(job_id, "rejected")

    def reopen(self, job_id: int) -> Json:
        """Sends a finished job back to annotation, as new."""
        return self.set_state(job_id, "new", stage="annotation")

    def accept(self, job_id: int) -> Json:
        return self.set_state(job_id, "completed", stage="acceptance")


@dataclass
class OpenJob:
    """One job in one browser tab. Edits stay here until `save`; what others save meanwhile is not seen."""

    person: Person
    id: int
    state: str
    shapes: dict[int, Json]
    _saved: dict[int, Json] = field(default_factory=dict)
    _new: list[Json] = field(default_factory=list)

    @classmethod
    def load(cls, person: Person, job_id: int) -> OpenJob:
        job = person.call("GET", f"/api/jobs/{job_id}")
        shapes = person.call("GET", f"/api/jobs/{job_id}/annotations")["shapes"]
        by_id = {shape["id"]: shape for shape in shapes}
        return cls(person, job_id, job["state"], by_id, dict(by_id))

    @property
    def path(self) -> str:
        return f"/api/jobs/{self.id}/annotations"

    def on_frame(self, frame: int) -> list[Json]:
        """The saved shapes of a frame as the tab shows them."""
        return [shape for shape in self.shapes.values() if shape["frame"] == frame]

    def draw(self, frame: int, label_id: int, points: list[float]) -> None:
        """A new rectangle, xyxy pixels; source manual."""
        shape = {"type": "rectangle", "frame": frame, "label_id": label_id, "points": points, "source": "manual"}
        self._new.append(shape | {"attributes": []})

    def move(self, shape_id: int, points: list[float]) -> None:
        """Other points; the id stays, and auto becomes semi-auto."""
        self._edit(shape_id, points=points)

    def relabel(self, shape_id: int, label_id: int) -> None:
        """Another label; the id stays, and auto becomes semi-auto."""
        self._edit(shape_id, label_id=label_id, attributes=[])

    def delete(self, shape_id: int) -> None:
        del self.shapes[shape_id]

    def save(self) -> None:
        """Up to three PATCHes (update, delete, create); the first save of a new job then sets it in progress."""
        changed = [shape for number, shape in self.shapes.items() if shape != self._saved.get(number)]
        gone = [shape for number, shape in self._saved.items() if number not in self.shapes]
        for action, shapes in (("update", changed), ("delete", gone), ("create", self._new)):
            if shapes:
                answer = self._patch(action, shapes)
                if action != "delete":
                    self.shapes |= {shape["id"]: shape for shape in answer}
        self._new, self._saved = [], dict(self.shapes)
        if self.state == "new":
            self._set_state("in progress")

    def finish(self) -> None:
        """Saves, then sets the job completed; the stage stays."""
        if self._new or self.shapes != self._saved:
            self.save()
        self._set_state("completed")

    def _patch(self, action: str, shapes: list[Json]) -> list[Json]:
        body = {"version": 0, "tags": [], "shapes": shapes, "tracks": []}
        found: list[Json] = self.person.call("PATCH", self.path, params={"action": action}, json=body)["shapes"]
        return found

    def _edit(self, shape_id: int, **what: Any) -> None:
        shape = self.shapes[shape_id]
        source = "semi-auto" if shape["source"] == "auto" else shape["source"]
        self.shapes[shape_id] = shape | what | {"source": source}

    def _set_state(self, state: str) -> None:
        self.state = self.person.set_state(self.id, state)["state"]
