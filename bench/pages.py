"""How soon the pages begin to arrive from a real `hardfirst web` over a project of 80,000 samples."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import numpy as np
from PIL import Image
from rich.table import Table

from bench import gallery, inputs
from bench.report import Goal, Report, tell
from common.compose import media
from common.config import Settings
from common.domain import Annotation, LabelledBox
from common.store import Store, open_store
from ls_backend.local_process import free_port

COUNT, QUICK_COUNT = 80_000, 4_000
ANSWERED = 20
"""One sample of so many has an answer."""
ASKED = 20
"""Requests of a kind that are measured, after one that is not."""
PHOTOS = ASKED + 1
PHOTO = (1600, 1200)
QUEUE_LIMIT_MS, LIMIT_MS = 150.0, 300.0
PAUSE_S = 2.2
"""Longer than the service keeps what it has counted: a person who comes for the first time."""
KEY = "label-studio:1"
VIEWS = ("rounds", "curve", "map", "review", "kpi", "events")
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
START_LIMIT_S = 60.0

Paths = dict[str, Callable[[int], str]]
"""What is asked for -> path of the i-th request."""
Changes = dict[str, Callable[[int], None]]
"""What is asked for -> what happens before the i-th request, which is not in its time."""


def run(*, quick: bool) -> Report:
    """Quick: 4,000 samples, no pauses."""
    report = Report("pages", quick)
    server = os.environ.get("HARDFIRST_TEST_POSTGRES")
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as folder:
        urls = {"SQLite": f"sqlite:///{folder}/SQLite/hardfirst.db"} | ({"PostgreSQL": server} if server else {})
        for name, url in urls.items():
            report.numbers[name] = _of(report, Path(folder) / name, name, url, quick=quick)
    report.goals = [g for name, numbers in report.numbers.items() for g in _goals(name, numbers["ms"])]
    report.show(*(_table(name, numbers) for name, numbers in report.numbers.items()))
    return report


def _of(report: Report, home: Path, name: str, url: str, *, quick: bool) -> dict[str, Any]:
    count = QUICK_COUNT if quick else COUNT
    settings = Settings(_env_file=None, home=home, database_url=url, port=free_port())
    store = open_store(url, home)
    store.forget(KEY)
    try:
        tell(f"{count} samples are written to {name}")
        _write(store, settings, count)
        with _service(settings) as spent, report.measured():
            ms = _measure(settings.port, spent, count, _changes(store, 0 if quick else PAUSE_S))
            return {"samples": count, "ms": ms}
    finally:
        store.forget(KEY)
        store.close()


# --- what is looked at -------------------------------------------------------------------------------------


def _write(store: Store, settings: Settings, count: int) -> None:
    rng = np.random.default_rng(0)
    with media(settings) as library:
        contents = {str(i): library.import_file(_photo(settings.folder, i, rng)).sha256 for i in range(PHOTOS)}
    store.projects.ask("label-studio", "1")
    gallery.rounds(store, KEY, str(settings.folder), [0.5 + n / 50 for n in range(12)])
    row = store.projects.get(KEY)
    made = gallery.fill(
        store,
        KEY,
        count,
        title="Many pictures",
        imgsz=settings.imgsz,
        predicted=count,
        model=gallery.weights(12),
        checkpoint=row.checkpoint if row else None,
        contents=contents,
    )
    gallery.plane(store, made)
    store.labels.record(KEY, [(str(i), [_answer(i)]) for i in range(0, count, ANSWERED)])
    store.reviews.record(KEY, 12, gallery.findings(600), time.time())
    for n in range(300):
        store.journal.write(KEY, f"{n} images were read", "warning" if n % 40 == 0 else "info")


def _photo(folder: Path, number: int, rng: np.random.Generator) -> Path:
    """Coarse shapes and some noise, as large on the disk as a photograph."""
    folder.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize(PHOTO, Image.Resampling.BICUBIC)
    noisy = np.asarray(coarse, np.int16) + rng.integers(-12, 12, (*PHOTO[::-1], 3), np.int16)
    path = folder / f"{number}.jpg"
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def _answer(number: int) -> Annotation:
    boxes = (LabelledBox("cat", (0.1, 0.1, 0.5, 0.5), "prediction"), LabelledBox("dog", (0.5, 0.2, 0.9, 0.8), "manual"))
    at = datetime.now(UTC) - timedelta(seconds=number)
    return Annotation(str(number), str(number), at, "ann", lead_time=5.0 + number % 30, boxes=boxes)


# --- the service, and a browser's requests -------------------------------------------------------------------


@contextmanager
def _service(settings: Settings) -> Iterator[Callable[[], float]]:
    """The web process of `hardfirst serve`, alone: the worker has nothing to do here; yields its CPU seconds so far."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HARDFIRST_", "LABEL_STUDIO_", "BASIC_"))}
    own = {
        "LABEL_STUDIO_URL": "http://127.0.0.1:9",
        "LABEL_STUDIO_API_KEY": "f" * 40,
        "HARDFIRST_HOME": str(settings.folder),
        "HARDFIRST_PORT": str(settings.port),
        "HARDFIRST_DATABASE_URL": settings.database,
    }
    command = [sys.executable, "-m", "common.cli", "web"]
    log = settings.folder / "web.log"
    with log.open("wb") as into:
        process = subprocess.Popen(command, env=clean | own, cwd=inputs.ROOT, stderr=into)
    try:
        _await(settings.port, process, log)
        yield lambda: _cpu_s(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _cpu_s(parent: int) -> float:
    import psutil

    top = psutil.Process(parent)
    times = [p.cpu_times() for p in (top, *top.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if first_byte(port, "/health")[0] == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"nothing answered at port {port} within {START_LIMIT_S:.0f} s: {log.read_text()[-500:]}")


def first_byte(port: int, path: str) -> tuple[int, float, int]:
    """(status, seconds from the connection to the first byte of the answer, bytes of the body)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        began = time.perf_counter()
        connection.request("GET", path, headers=HTML)
        answer = connection.getresponse()
        seconds = time.perf_counter() - began
        return answer.status, seconds, len(answer.read())
    finally:
        connection.close()


def paths(count: int) -> Paths:
    """The views and what people look for in them; ``count`` samples."""
    project = f"/projects/{KEY}"
    waiting = count - count // ANSWERED

    def queue(**given: Any) -> Callable[[int], str]:
        return lambda _: f"{project}/queue?{urlencode(given)}"

    def page(name: str) -> Callable[[int], str]:
        return lambda _: f"{project}/{name}"

    return {
        "queue": queue(),
        "queue, after a pause": queue(),
        "queue, page 10": queue(start=9 * 60),
        "queue, last page": queue(start=waiting // 60 * 60),
        "queue, a class": queue(**{"class": "cat"}),
        "queue, a class that is nowhere": queue(**{"class": "bird"}),
        "queue, random slice": queue(show="random"),
        "queue, uncertain": queue(show="uncertain"),
        "queue, unreadable": queue(show="unreadable"),
        "queue, a reason": queue(reason="nearest"),
        "queue, a reason, last page": queue(reason="drawn", start=waiting // 600 * 60),
        **{name: page(name) for name in VIEWS},
        "home": lambda _: "/",
        "thumbnail, first time": lambda i: f"{project}/thumbnails/{i}",
        "thumbnail, again": lambda i: f"{project}/thumbnails/{i}",
        "points of the map": lambda _: f"{project}/map/points",
        "points of the map, after a label": lambda _: f"{project}/map/points",
    }


def _changes(store: Store, pause_s: float) -> Changes:
    def label(i: int) -> None:
        sample = str(i * ANSWERED + 1)
        store.labels.record(KEY, [(sample, [_answer(int(sample))])])

    return {"queue, after a pause": lambda _: time.sleep(pause_s), "points of the map, after a label": label}


def _measure(port: int, spent: Callable[[], float], count: int, changes: Changes) -> dict[str, dict[str, float]]:
    found = {}
    for name, path in paths(count).items():
        seconds, size, before = [], 0, spent()
        for i in range(ASKED + 1):
            if name in changes:
                changes[name](i)
            status, taken, size = first_byte(port, path(i))
            if status != 200:
                raise RuntimeError(f"{path(i)} answered {status}: these figures would be of an error")
            seconds.append(1000 * taken)
        p50, p95 = median(seconds[1:]), float(np.percentile(seconds[1:], 95))
        cpu = 1000 * (spent() - before) / (ASKED + 1)
        found[name] = {"p50": round(p50, 1), "p95": round(p95, 1), "cpu": round(cpu, 1), "kB": round(size / 1000, 1)}
    return found


def _goals(database: str, ms: dict[str, dict[str, float]]) -> list[Goal]:
    slowest = max((n for n in ms if n not in ("queue", "queue, after a pause")), key=lambda n: ms[n]["p50"])
    return [
        *(Goal(f"{database}: {n}, first byte", ms[n]["p50"], QUEUE_LIMIT_MS, "ms") for n in list(ms)[:2]),
        Goal(f"{database}: slowest of the others ({slowest})", ms[slowest]["p50"], LIMIT_MS, "ms"),
    ]


def _table(database: str, numbers: dict[str, Any]) -> Table:
    title = f"{numbers['samples']} samples in {database}: first byte, {ASKED} requests each"
    table = Table("asked for", "median, ms", "p95, ms", "CPU each, ms", "kB", title=title)
    for name, of in numbers["ms"].items():
        table.add_row(name, *(f"{of[k]:.1f}" for k in ("p50", "p95", "cpu", "kB")))
    return table
