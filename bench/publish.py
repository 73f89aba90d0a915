"""Publishing an order of 10,000 images to a real Label Studio on SQLite, against bare imports in the same minutes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
from rich.table import Table

from bench import inputs
from bench.report import Goal, Report, tell
from common.compose import open_platform
from common.config import Settings
from common.domain import Instances, Prediction, RemoteSample
from common.loop import Tools
from common.loop.publishing import block_size, publish_step
from common.ports import Model
from common.store import open_store
from common.store.publications import Place, PublicationRow
from ls_backend.label_config import rectangles
from ls_backend.local_server import LocalLabelStudio

TASKS = 10_000
BOXES = 5
FIRST_BLOCKS = 3
"""A first block takes about a second: the median of three pairs."""
SIDE = 640
NAMES = ("RBC", "WBC", "Platelets")
BARE_BOX = {"width": 100 / 7, "height": 100 / 9, "rotation": 0, "rectanglelabels": ["RBC"]}
MODEL = Model(Path("weights.pt"), "a" * 64, NAMES)
ACTIVE_LIMIT, WHOLE_LIMIT, SUBMIT_LIMIT_S = 1.5, 1.4, 3.0


class OneModel:
    """The model that said everything in the prepared store; it is never run."""

    def base(self, _model_path: str) -> Model:
        return MODEL


@dataclass
class Clock:
    """When what happened, so that every submit can be told what went on meanwhile."""

    spans: list[tuple[str, float, float]] = field(default_factory=list)

    @contextmanager
    def span(self, kind: str) -> Iterator[None]:
        began = time.time()
        yield
        self.spans.append((kind, began, time.time()))

    def seconds(self, kind: str) -> list[float]:
        return [end - began for k, began, end in self.spans if k == kind]

    def met(self, kind: str, began: float, ended: float) -> bool:
        """Whether ``kind`` was going on at some time from ``began`` to ``ended``."""
        return any(k == kind and b < ended and began < e for k, b, e in self.spans)


def run(*, quick: bool) -> Report:
    """Quick: 2,000 tasks, a first block of 200."""
    total = 2000 if quick else TASKS
    report = Report("publish", quick)
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as temporary:
        folder = Path(temporary)
        with LocalLabelStudio(folder / "label-studio", progress=tell) as server:
            ours, twin = _project(server, "ours", total), _project(server, "twin", total)
            tools = _tools(folder / "home", server, quick=quick)
            order = _store(tools, ours)
            with report.measured(), _annotator(server, ours.id) as lines:
                clock, blocks = _publish(tools, server, ours, twin, order)
            submits = [json.loads(line) for line in lines]
            tools.store.close()
    report.numbers = _numbers(clock, blocks, submits)
    report.goals = _goals(report.numbers)
    report.show(_blocks(clock, blocks), _figures(report.numbers))
    return report


@dataclass(frozen=True)
class Made:
    """One project and its tasks."""

    id: int
    tasks: list[int]


def _project(server: LocalLabelStudio, title: str, total: int) -> Made:
    tell(f"{total} tasks for {title}")
    with server.client() as http:
        body = {"title": title, "label_config": rectangles(NAMES), "sampling": "Uncertainty sampling"}
        project = int(http.post("/api/projects", json=body).raise_for_status().json()["id"])
        tasks = [{"image": f"http://images.example/{i}.jpg"} for i in range(total)]
        made = http.post(f"/api/projects/{project}/import?return_task_ids=1", json=tasks, timeout=600)
        return Made(project, [int(i) for i in made.raise_for_status().json()["task_ids"]])


def _tools(home: Path, server: LocalLabelStudio, *, quick: bool) -> Tools:
    values: dict[str, Any] = {"home": home, "label_studio_url": server.url, "label_studio_api_key": server.token}
    values |= {"first_block": 200, "later_block": 1000} if quick else {}
    settings = Settings(_env_file=None, **values)
    store = open_store(settings.database, settings.folder)
    nothing: Any = None
    models: Any = OneModel()
    return Tools(store, settings, nothing, models, nothing, lambda row: open_platform(settings, store, row))


def _store(tools: Tools, ours: Made) -> list[Place]:
    """A connected project whose images are all scored; returns its order."""
    tell(f"a store of {len(ours.tasks)} scored images")
    key, rng = f"label-studio:{ours.id}", np.random.default_rng(0)
    store = tools.store
    store.projects.ask("label-studio", str(ours.id))
    row = store.projects.get(key)
    assert row is not None  # noqa: S101 - asked for just now
    spec = tools.open(row).spec()
    store.projects.update(key, state="active", spec=spec, first_read=time.time(), reconciled=time.time())
    store.samples.replace(key, [RemoteSample(str(t), f"http://images.example/{t}.jpg") for t in ours.tasks])
    rows = store.samples.all(key)
    hashes = [f"{r.id:064x}" for r in rows]
    had = [
        {"id": r.id, "sha256": h, "width": SIDE, "height": SIDE, "problem": ""}
        for r, h in zip(rows, hashes, strict=True)
    ]
    store.samples.fetched(key, had)
    store.predictions.put(MODEL.sha256, tools.settings.imgsz, [(h, _prediction(rng)) for h in hashes])
    order = rng.permutation(ours.tasks).tolist()
    return [Place(i, str(t), i / (len(order) + 1), 1 - i / len(order), {}) for i, t in enumerate(order, start=1)]


def _prediction(rng: np.random.Generator) -> Prediction:
    """Five boxes that are shown and 512 numbers of embedding, like a real one."""
    corner = rng.uniform(0, SIDE / 2, (BOXES, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, SIDE / 2, (BOXES, 2))], axis=1).astype(np.float32)
    scores = np.full((BOXES, len(NAMES)), 0.01, np.float32)
    scores[np.arange(BOXES), rng.integers(0, len(NAMES), BOXES)] = rng.uniform(0.6, 1, BOXES)
    spread, each = np.zeros(BOXES, np.float32), np.zeros(len(NAMES), np.float32)
    embedding = rng.normal(size=512).astype(np.float32)
    return Prediction(Instances(boxes, scores), embedding, each, each + 0.1, spread, SIDE, SIDE)


def _publish(
    tools: Tools, server: LocalLabelStudio, ours: Made, twin: Made, order: list[Place]
) -> tuple[Clock, list[int]]:
    """Block after block, first bare into the twin, then ours, so that both meet the same Label Studio."""
    clock, blocks = Clock(), []
    row = tools.store.projects.get(f"label-studio:{ours.id}")
    assert row is not None  # noqa: S101 - it was stored just now
    platform = tools.open(row)
    with server.client() as http:
        for repeat in range(FIRST_BLOCKS):  # of a new order each; the last one goes on to its end
            size = min(tools.settings.first_block, len(order))
            with clock.span("bare"):
                _import(http, twin.id, [_bare(task, repeat) for task in twin.tasks[:size]])
            with clock.span("ours"):
                newest = _create(tools, row.key, order).id
                publish_step(tools, row, platform)
            _tell(clock, size)
        blocks.append(size)
        while (publication := tools.store.publications.get(newest)).sent < publication.total:
            sent = publication.sent
            size = min(block_size(tools, publication), len(order) - sent)
            with clock.span("bare"):
                _import(http, twin.id, [_bare(task, FIRST_BLOCKS - 1) for task in twin.tasks[sent : sent + size]])
            with clock.span("ours"):
                publish_step(tools, row, platform)
            blocks.append(size)
            _tell(clock, size)
    return clock, blocks


def _tell(clock: Clock, size: int) -> None:
    tell(f"{size} rows: bare {clock.seconds('bare')[-1]:.1f} s, ours {clock.seconds('ours')[-1]:.1f} s")


def _create(tools: Tools, key: str, order: list[Place]) -> PublicationRow:
    return tools.store.publications.create(
        key, name="hardfirst", round_number=0, checkpoint=None, sha8=MODEL.sha256[:8], places=order, seconds={}
    )


def _bare(task: int, version: int) -> dict[str, Any]:
    """A row as a script would send it, with as many boxes as ours."""
    regions = [
        {
            "id": f"r{i}",
            "from_name": "label",
            "to_name": "image",
            "type": "rectanglelabels",
            "original_width": SIDE,
            "original_height": SIDE,
            "image_rotation": 0,
            "value": {"x": 100 * (i + 1) / 7, "y": 100 * (i + 1) / 9, **BARE_BOX},
            "score": 0.1 + (i + 1) / 7,
        }
        for i in range(BOXES)
    ]
    return {"task": task, "model_version": f"bare {version}", "score": (task % 997) / 997, "result": regions}


def _import(http: httpx.Client, project: int, rows: list[dict[str, Any]]) -> None:
    answer = http.post(f"/api/projects/{project}/import/predictions", json=rows, timeout=900)
    created = answer.raise_for_status().json()["created"]
    if created != len(rows):
        raise ValueError(f"Label Studio stored {created} of {len(rows)} bare rows")


@contextmanager
def _annotator(server: LocalLabelStudio, project: int) -> Iterator[list[str]]:
    """A person at work; the lines are there at the end."""
    command = [sys.executable, "-m", "bench.annotator", server.url, server.token, str(project)]
    lines: list[str] = []
    with tempfile.NamedTemporaryFile("w+") as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=said, text=True, cwd=inputs.ROOT) as process:
            try:
                while not Path(said.name).stat().st_size and process.poll() is None:
                    time.sleep(0.1)
                yield lines
            finally:
                process.communicate(timeout=120)
        if process.returncode:
            raise RuntimeError(f"the annotator stopped with status {process.returncode}")
        said.seek(0)
        lines.extend(said)


def _numbers(clock: Clock, blocks: list[int], submits: list[dict[str, float]]) -> dict[str, Any]:
    bare, ours = clock.seconds("bare"), clock.seconds("ours")
    first_bare, first_ours = median(bare[:FIRST_BLOCKS]), median(ours[:FIRST_BLOCKS])
    bare, ours = bare[FIRST_BLOCKS - 1 :], ours[FIRST_BLOCKS - 1 :]

    def slowest(kind: str) -> float:
        met = [s for s in submits if clock.met(kind, s["submit_began"], s["ended"])]
        return round(max((s["ended"] - s["submit_began"] for s in met), default=0.0), 2)

    return {
        "rows": sum(blocks),
        "blocks": blocks,
        "bare_s": [round(s, 2) for s in bare],
        "ours_s": [round(s, 2) for s in ours],
        "first_bare_all_s": [round(s, 2) for s in clock.seconds("bare")[:FIRST_BLOCKS]],
        "first_ours_all_s": [round(s, 2) for s in clock.seconds("ours")[:FIRST_BLOCKS]],
        "first_bare_s": round(first_bare, 2),
        "order_active_s": round(first_ours, 2),
        "active_ratio": round(first_ours / first_bare, 3),
        "whole_bare_s": round(sum(bare), 2),
        "whole_s": round(sum(ours), 2),
        "whole_ratio": round(sum(ours) / sum(bare), 3),
        "submits": len(submits),
        "slowest_submit_s": slowest("ours"),
        "slowest_submit_during_bare_s": slowest("bare"),
        "refused": sum(int(s["refused"] + s["refused_next"]) for s in submits),
        "slowest_next_s": round(max((s["submit_began"] - s["next_began"] for s in submits), default=0.0), 2),
    }


def _goals(n: dict[str, Any]) -> list[Goal]:
    return [
        Goal(f"order active, to a bare import of {n['blocks'][0]} rows", n["active_ratio"], ACTIVE_LIMIT, "times"),
        Goal(f"whole publish of {n['rows']} rows, to bare imports", n["whole_ratio"], WHOLE_LIMIT, "times"),
        Goal("slowest submit during the publish", n["slowest_submit_s"], SUBMIT_LIMIT_S, "s"),
    ]


def _blocks(clock: Clock, blocks: list[int]) -> Table:
    table = Table("block", "rows", "bare import, s", "ours, s", "ratio", title="side by side")
    sizes = [blocks[0]] * (FIRST_BLOCKS - 1) + blocks
    for i, (size, bare, ours) in enumerate(zip(sizes, clock.seconds("bare"), clock.seconds("ours"), strict=True)):
        name = f"first of order {i + 1}" if i < FIRST_BLOCKS else str(i - FIRST_BLOCKS + 2)
        table.add_row(name, str(size), f"{bare:.2f}", f"{ours:.2f}", f"{ours / bare:.2f}")
    return table


def _figures(n: dict[str, Any]) -> Table:
    table = Table("figure", "seconds", title=f"publishing {n['rows']} rows of {BOXES} boxes")
    table.add_row("bare import of the first block", f"{n['first_bare_s']:.2f}")
    table.add_row("order created to order active", f"{n['order_active_s']:.2f}")
    table.add_row("bare imports, all blocks", f"{n['whole_bare_s']:.2f}")
    table.add_row("whole publish", f"{n['whole_s']:.2f}")
    table.add_row(f"slowest of {n['submits']} submits, while we publish", f"{n['slowest_submit_s']:.2f}")
    table.add_row("slowest submit, while a bare import runs", f"{n['slowest_submit_during_bare_s']:.2f}")
    table.add_row("slowest next task meanwhile", f"{n['slowest_next_s']:.2f}")
    table.add_row("requests Label Studio failed with 500 (tried again, counted in)", str(n["refused"]))
    return table
