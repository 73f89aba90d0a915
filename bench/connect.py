"""From `hardfirst connect` to a published queue: 364 photographs of bccd, everything real."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from rich.table import Table

from bench import inputs
from bench.report import Goal, Report, tell
from common.store import Store, open_store
from common.store.publications import PublicationRow
from ls_backend.demo.stage import Stage
from ls_backend.label_config import rectangles

GOAL_S = 60.0
LIMIT_S = 900.0
STEPS = ("connect", "fetch", "score", "order", "publish")


def run(*, quick: bool) -> Report:
    """Time one first queue; quick: over 64 photographs."""
    report = Report("connect", quick)
    folder = inputs.data_set("bccd")
    files = sorted((folder / "images").iterdir())[: 64 if quick else None]
    settings = {"HARDFIRST_MODEL": str(inputs.weights()), "HARDFIRST_IMGSZ": "320"}
    with (
        tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as temporary,
        Stage(Path(temporary), folder / "images", settings, tell) as stage,
    ):
        project = stage.project("bench", rectangles(inputs.class_names(folder)), files)
        store = open_store(f"sqlite:///{stage.home / 'hardfirst.db'}", stage.home)
        with report.measured():
            began = time.monotonic()
            stage.run("connect", "label-studio", "--project", str(project))
            connected = time.monotonic() - began
            published = await_queue(store, stage.key)
            total = time.monotonic() - began
        store.close()
    seconds = {"connect": round(connected, 2), **published.seconds}
    seconds["rest"] = round(total - sum(seconds[s] for s in STEPS), 2)
    report.numbers = {"images": len(files), "seconds": seconds, "total": round(total, 2)}
    report.goals = [Goal(f"{len(files)} photographs: connect to published queue", total, GOAL_S, "s")]
    report.show(_table(len(files), seconds, total))
    return report


def await_queue(store: Store, key: str) -> PublicationRow:
    """Until every row of the first queue is on the platform."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found = [p for p in store.publications.all(key) if p.activated is not None]
        if found and found[0].sent == found[0].total and "publish" in found[0].seconds:
            return found[0]
        time.sleep(0.1)
    raise TimeoutError(f"no queue after {LIMIT_S:.0f} s")


def _table(images: int, seconds: dict[str, float], total: float) -> Table:
    table = Table("step", "seconds", "per image", title=f"{images} photographs, imgsz 320")
    names = {
        "connect": "`hardfirst connect`, Python starting included",
        "rest": "rest: reading the project, waiting",
    }
    for step in (*STEPS, "rest"):
        table.add_row(names.get(step, step), f"{seconds[step]:.2f}", f"{1000 * seconds[step] / images:.1f} ms")
    table.add_row("total", f"{total:.2f}", f"{1000 * total / images:.1f} ms", style="bold")
    return table
