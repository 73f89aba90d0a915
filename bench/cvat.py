"""Reading a CVAT project of 10,000 frames in 1,000 jobs: metadata, annotations and every chunk, without scoring."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from rich.table import Table

from bench import inputs
from bench.report import Goal, Report, tell
from common.config import Settings
from common.loop.scoring import FETCH_SLICE
from common.media import MediaLibrary, Source
from common.store import open_store
from cvat_adapter import PLATFORM

GOAL_S = 60.0
GOAL_BYTES = 2**30
TASKS, JOBS, FRAMES, BOXES = 10, 100, 10, 5
"""Tasks, jobs of a task, frames of a job, boxes of a frame in a completed job; every second job is completed."""
SIZE = (640, 480)


def run(*, quick: bool) -> Report:
    """Serve and read in processes of their own; quick: a tenth of it."""
    report = Report("cvat", quick)
    tasks = 1 if quick else TASKS
    counted: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as folder, _server(tasks, counted) as access:
        tell(f"{tasks * JOBS * FRAMES} frames in {tasks * JOBS} jobs are served")
        with report.measured():
            command = [sys.executable, "-m", "bench.cvat", "read", *access, folder]
            done = subprocess.run(command, cwd=inputs.ROOT, check=True, capture_output=True, text=True)
    numbers = json.loads(done.stdout.splitlines()[-1]) | {"requests": counted}
    report.numbers = numbers
    frames = numbers["frames"]
    report.goals = [
        Goal(f"{frames} frames in {tasks * JOBS} jobs: read whole", numbers["seconds"]["total"], GOAL_S, "s"),
        Goal("peak memory of the reader", numbers["peak"] / 2**20, GOAL_BYTES / 2**20, "MiB"),
    ]
    report.show(_table(numbers))
    return report


@contextmanager
def _server(tasks: int, counted: dict[str, int]) -> Iterator[list[str]]:
    """[address, token, project] of the stand-in CVAT in a process of its own; ``counted`` gets its requests by kind."""
    command = [sys.executable, "-m", "bench.cvat", "serve", str(tasks)]
    with subprocess.Popen(
        command, cwd=inputs.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None:
            raise RuntimeError("the stand-in has no output")
        yield process.stdout.readline().split()
        told, _ = process.communicate("stop\n", timeout=60)
        counted |= json.loads(told)


def _table(numbers: dict[str, Any]) -> Table:
    asked = ", ".join(f"{count} {kind}" for kind, count in sorted(numbers["requests"].items()))
    table = Table(
        "step", "seconds", title=f"{numbers['frames']} frames, {numbers['peak'] >> 20} MiB; requests: {asked}"
    )
    for step, seconds in numbers["seconds"].items():
        table.add_row(step, f"{seconds:.2f}")
    return table


@click.group()
def main() -> None:
    """The two processes of the benchmark."""


@main.command()
@click.argument("tasks", type=int)
def serve(tasks: int) -> None:
    """Serve TASKS tasks until standard input says stop."""
    from tests.cvat_server.server import FakeCvat

    with FakeCvat() as cvat:
        owner = cvat.add_user("plugin", "plugin-password")
        organization = cvat.add_organization("bench", owner)
        project = cvat.add_project("bench", ["cell"], org=organization, owner=owner)
        for number in range(tasks):
            images = [(f"{number:02}-{i:04}.jpg", _photo(number * JOBS * FRAMES + i)) for i in range(JOBS * FRAMES)]
            task = cvat.add_task(project, f"pool {number}", images, segment_size=FRAMES)
            _label(cvat, task, project)
        print(cvat.url, cvat.add_token(owner), project.id, flush=True)
        cvat.log.clear()
        sys.stdin.readline()
        print(json.dumps(Counter(_kind(path) for _, path in cvat.log)), flush=True)


def _kind(path: str) -> str:
    """What a request asks for."""
    kinds = {"type=chunk": "chunks", "type=frame": "single frames", "annotations": "annotations", "meta": "frame lists"}
    return next((kind for part, kind in kinds.items() if part in path), "lists")


def _photo(seed: int) -> bytes:
    """About 40 KB that are like no other seed's."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize(SIZE, Image.Resampling.BILINEAR).save(out, "JPEG", quality=80)
    return out.getvalue()


def _label(cvat: Any, task: Any, project: Any) -> None:
    """Every second job of a task is completed, with boxes."""
    label = next(i for i, found in cvat.world.labels.items() if found.project_id == project.id)
    jobs = sorted((j for j in cvat.world.jobs.values() if j.task_id == task.id), key=lambda j: j.start_frame)
    for job in jobs[::2]:
        job.state = "completed"
        for frame in range(job.start_frame, job.stop_frame + 1):
            job.shapes += [_box(cvat, label, frame, k) for k in range(BOXES)]


def _box(cvat: Any, label: int, frame: int, k: int) -> dict[str, Any]:
    box = [10.0 + 100 * k, 20.0, 90.0 + 100 * k, 200.0]
    return {
        **{"id": cvat.world.next_id("shape"), "type": "rectangle", "label_id": label, "frame": frame, "points": box},
        **{"source": "manual", "score": 1.0, "rotation": 0.0, "occluded": False, "outside": False, "z_order": 0},
        **{"group": 0, "attributes": [], "elements": []},
    }


@main.command()
@click.argument("url")
@click.argument("token")
@click.argument("project")
@click.argument("folder", type=Path)
def read(url: str, token: str, project: str, folder: Path) -> None:
    """Read a whole project as the worker does, and print what it took."""
    settings = Settings(cvat_url=url, cvat_access_token=token, home=folder)
    store = open_store(settings.database, settings.folder)
    memory = store.memories.of(f"cvat:{project}")
    port = PLATFORM.open(project, settings, {}, lambda _state: None, memory)
    seconds: dict[str, float] = {}
    began = last = time.monotonic()

    def lap(name: str) -> None:
        nonlocal last
        now = time.monotonic()
        seconds[name], last = round(now - last, 2), now

    samples = list(port.samples())
    lap("metadata")
    answers = sum(len(found) for _, found in port.annotations())
    lap("annotations")
    problems: Counter[str] = Counter()
    with MediaLibrary(folder / "images", allow_hosts=(), max_bytes=2**26, max_pixels=10**8, cache_bytes=2**34) as media:
        for start in range(0, len(samples), FETCH_SLICE):
            source = Source(port.media_origin(), port.media_headers(), port.media_bulk)
            urls = [port.media_url(s.id, s.uri) for s in samples[start : start + FETCH_SLICE]]
            problems.update(type(g).__name__ for g in media.get_many(urls, source))
    lap("chunks")
    seconds["total"] = round(time.monotonic() - began, 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    told = {"frames": len(samples), "answers": answers, "images": dict(problems), "seconds": seconds, "peak": peak}
    store.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
