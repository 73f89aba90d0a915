"""The story of the CVAT recordings, told to the stand-in: the same people, project, tasks, jobs and ids."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from tests.contract.cvat_recorded import Exchange
from tests.cvat_server.annotation_rules import create, read
from tests.cvat_server.annotations import rules_for
from tests.cvat_server.jobs import make_job, make_task
from tests.cvat_server.logins import make_token
from tests.cvat_server.organizations import make_membership, make_organization
from tests.cvat_server.resources import make_project
from tests.cvat_server.world import Frame, Job, Session, Task, Token, User, Webhook, World

CAR = 25
SVG = '<circle data-type="element node" data-label-name="head"></circle>'
PARTS = [{"name": name, "type": "points"} for name in ("head", "foot")]
LABELS: list[dict[str, Any]] = [
    {
        "name": "car",
        "type": "rectangle",
        "attributes": [{"name": "occl", "mutable": False, "input_type": "select", "values": ["no", "yes"]}],
    },
    {"name": "cell", "type": "polygon"},
    {"name": "blob", "type": "mask"},
    {"name": "empty", "type": "tag"},
    {"name": "any", "type": "any"},
    {"name": "person", "type": "skeleton", "svg": SVG, "sublabels": PARTS},
]


TASKS: list[tuple[str, list[int], dict[str, Any]]] = [
    (
        "P001 pool A",
        [4, 4, 4, 4],
        {"segment_size": 4, "subset": "Train", "bug_tracker": "https://example.org/x"},
    ),
    ("AL queue r1", [2, 2, 2], {"subset": "al-r1"}),
    ("AL queue r1 predefined", [2, 2, 2], {"segment_size": 2}),
    ("AL queue share", [1, 1, 4], {}),
    ("AL queue share predefined", [3, 3], {"segment_size": 3}),
    ("dup", [], {}),
    ("no data", [], {}),
    ("no data", [], {}),
]


@cache
def picture() -> bytes:
    """A JPEG of 320 x 240 pixels, as every recorded image."""
    file = io.BytesIO()
    Image.new("RGB", (320, 240)).save(file, "JPEG")
    return file.getvalue()


def share(folder: Path) -> Path:
    """A folder as the recorded server's share: pool/img_000.jpg to img_015.jpg."""
    (folder / "pool").mkdir(parents=True)
    for number in range(16):
        (folder / "pool" / f"img_{number:03}.jpg").write_bytes(picture())
    return folder


class Story:
    """A world as it was in the recordings.

    Tasks: 4 is the pool (jobs 9 to 12; job 9 has annotations), 5 to 8 are queue tasks, 9 to 11 have no data.
    Those from `until` on are not there yet; what is made next gets the recorded ids.
    """

    def __init__(self, world: World, until: int = 12) -> None:
        self.world = world
        world.base_url = "http://cvat.example:8080"
        self._people()
        self._project()
        self._tasks(until)
        self._annotations()
        for number in (2, 4, 5, 6, 7, 8, 9):
            self.hook(number)
        self.skip_to("webhook", 2)

    def skip_to(self, kind: str, number: int) -> None:
        """The next id of a kind will be `number`."""
        while self.world.next_id(kind) < number - 1:
            pass

    def user(self, name: str) -> User:
        return next(one for one in self.world.users.values() if one.username == name)

    def job(self, number: int) -> Job:
        return self.world.jobs[number]

    def task(self, number: int) -> Task:
        return self.world.tasks[number]

    def _people(self) -> None:
        world = self.world
        for number, name in enumerate(("admin", "plugin", "annotator1", "annotator2", "outsider"), 1):
            user = User(number, name, "a-password", world.now(), email=f"{name}@example.com", last_login=world.now())
            world.users[number] = user
        plugin = self.user("plugin")
        lab = make_organization(world, "allab", plugin, "AL lab")
        for name in ("annotator1", "annotator2"):
            make_membership(world, lab, self.user(name), "worker").invitation = f"key-{name}"
        self.read_only: Token = make_token(world, plugin, "adapter", read_only=True)
        self.token: Token = make_token(world, plugin, "adapter-rw", read_only=False)
        self.token.last_used_date = self.read_only.last_used_date = world.now()

    def _project(self) -> None:
        for kind, number in (("project", 4), ("label", CAR), ("attribute", 4)):
            self.skip_to(kind, number)
        lab = self.world.organizations[1]
        self.project = make_project(self.world, self.user("plugin"), lab, {"name": "al-demo", "labels": LABELS})

    def _tasks(self, until: int) -> None:
        self.skip_to("task", 4)
        self.skip_to("data", 4)
        self.skip_to("job", 9)
        for number, (name, sizes, what) in enumerate(TASKS, 4):
            if number < until:
                self.add_task(name, sizes, **what)

    def add_task(self, name: str, sizes: list[int], **what: Any) -> Task:
        task = make_task(self.world, self.user("plugin"), None, self.project, {"name": name, **what})
        if not sizes:
            return task
        task.frames = [Frame(f"img_{number:03}.jpg", 320, 240, picture()) for number in range(sum(sizes))]
        task.data_id, task.overlap, task.chunks_updated_date = self.world.next_id("data"), 0, self.world.now()
        task.dimension, task.mode, task.media_type = "2d", "annotation", "image"
        start = 0
        for size in sizes:
            make_job(self.world, task, "annotation", start, start + size - 1)
            start += size
        return task

    def _annotations(self) -> None:
        """What `annotations_patch_create_auto_with_score` made: shapes 16 to 22 and tag 2 in job 9."""
        self.skip_to("shape", 16)
        self.skip_to("tag", 2)
        made = Exchange.read("annotations/annotations_patch_create_auto_with_score__PATCH_200")
        if 9 in self.world.jobs:
            create(self.job(9), read(made.body), rules_for(self.world, self.job(9)))

    def hook(self, number: int, events: tuple[str, ...] = ("update:job",)) -> Webhook:
        """A webhook of the project to a port where nobody listens."""
        now, target = self.world.now(), "http://127.0.0.1:9/hook"
        made = Webhook(number, target, "project", 2, 4, 1, list(events), now, now, enable_ssl=False)
        self.world.webhooks[number] = made
        return made

    def session(self, name: str) -> Session:
        """A login of this person, as if over HTTP."""
        made = Session(f"session-{name}", f"csrf-{name}", self.user(name).id)
        self.world.sessions[made.key] = made
        return made

    def credentials(self, exchange: Exchange) -> dict[str, str]:
        """The headers that say who asks: the recordings have REDACTED there, but the step names the person."""
        if "authorization" in exchange.headers:
            if exchange.step == "bad_token":
                return {"Authorization": "Bearer nobody"}
            token = self.read_only if exchange.step.startswith("ro_token") else self.token
            return {"Authorization": f"Bearer {token.value}"}
        if "cookie" not in exchange.headers:
            return {}
        first = exchange.step.partition("_")[0]
        if exchange.status == 401:
            return {"Cookie": "sessionid=ended; csrftoken=ended"}
        session = self.session({"annotator": "annotator1", "outsider": "outsider"}.get(first, "plugin"))
        return {"Cookie": f"sessionid={session.key}; csrftoken={session.csrf}", "X-CSRFToken": session.csrf}
