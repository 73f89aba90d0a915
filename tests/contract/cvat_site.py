"""A project of an organisation in the stand-in CVAT, a reader of it, and the requests it made, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from common.config import Settings
from common.domain import Annotation
from cvat_adapter.client import Api
from cvat_adapter.reading import Reader
from tests.cvat_server import world as records
from tests.cvat_server.people import Annotator, Manager
from tests.cvat_server.server import FakeCvat
from tests.unit.cvat_memory import DictMemory
from tests.unit.media_platform import image

EARLY = datetime(2020, 1, 1, tzinfo=UTC)
BOX = [6.0, 4.0, 30.0, 20.0]
PICTURE = image()


@dataclass
class Site:
    """A project of an organisation on a running stand-in, and a reader of it."""

    cvat: FakeCvat
    project: records.Project
    api: Api
    memory: DictMemory = field(default_factory=DictMemory)
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def reader(self) -> Reader:
        return self.reader_of()

    def reader_of(self, **settings: Any) -> Reader:
        return Reader(self.api, str(self.project.id), Settings(_env_file=None, **settings), self.memory, self.state)

    @property
    def label(self) -> int:
        return self.cvat.world.labels_of(self.project)[0].id

    def task(self, frames: int, project: records.Project | None = None, **how: Any) -> records.Task:
        pictures = [(f"{n:05}.png", PICTURE) for n in range(frames)]
        return self.cvat.add_task(project or self.project, "pool", pictures, **how)

    def manager(self) -> Manager:
        return Manager(self.cvat.url, "boss", "pass", "lab")

    def done(self, job: records.Job, *frames: int, label: int | None = None) -> None:
        """Ann gets the job, draws a box on these frames and finishes."""
        with self.manager() as boss, Annotator(self.cvat.url, "ann", "pass", "lab") as ann:
            boss.assign(job.id, ann.id)
            ann.annotate(job.id, [(n, label or self.label, BOX) for n in frames])
        self.cvat.log.clear()

    def asked(self) -> Counter[str]:
        """'GET /path' -> requests since the log was cleared, numbers as N; 'chunk' for chunks."""
        found: Counter[str] = Counter()
        for method, address in list(self.cvat.log):
            parts = urlsplit(address)
            path = "/".join("N" if part.isdigit() else part for part in parts.path.strip("/").split("/"))
            found["chunk" if parse_qs(parts.query).get("type") == ["chunk"] else f"{method} {path}"] += 1
        return found


@pytest.fixture(name="site")
def site_fixture() -> Iterator[Site]:
    with FakeCvat() as cvat:
        boss, ann = cvat.add_user("boss"), cvat.add_user("ann")
        lab = cvat.add_organization("lab", boss)
        cvat.add_member(lab, ann)
        project = cvat.add_project("birds", ["bird", {"name": "cell", "type": "polygon"}], owner=boss, org=lab)
        api = Api(cvat.url, token=cvat.add_token(boss))
        api.organization = "lab"
        yield Site(cvat, project, api)
        api.close()


def read(found: Iterator[tuple[str, list[Annotation]]]) -> dict[str, list[str]]:
    """Sample -> ids of its answers; each sample comes once."""
    rows = list(found)
    assert len({sample for sample, _ in rows}) == len(rows)
    return {sample: [one.id for one in answers] for sample, answers in rows}


def answers_of(reader: Reader) -> dict[str, int]:
    return {one.id: one.answers for one in reader.samples()}
