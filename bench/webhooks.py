"""How fast `hardfirst serve` answers Label Studio while a round trains on every core."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bench import inputs
from bench.report import Goal, Report, tell
from common.config import SECRET_HEADER
from common.sample.oracle import FolderOracle
from common.store import Store, open_store
from common.yolo.offline import cores
from ls_backend.demo.annotator import _region
from ls_backend.demo.stage import Stage
from ls_backend.label_config import rectangles

RATE = 20
SECONDS, QUICK_SECONDS = 120, 20
LABELLED, OPEN = 60, 60
ENDPOINTS = ("/health", "/setup", "/webhook")
P99_LIMIT_MS, MAX_LIMIT_MS = 200.0, 1000.0
TRAINING_LIMIT_S = 300.0
ENDLESS = "100000"
"""Updates of the round: it trains longer than we measure."""


def run(*, quick: bool) -> Report:
    """Quick: 20 seconds instead of 120."""
    report = Report("webhooks", quick)
    folder = inputs.data_set("bccd")
    settings = {
        "HARDFIRST_MODEL": str(inputs.weights()),
        "HARDFIRST_IMGSZ": "320",
        "HARDFIRST_UPDATES": ENDLESS,
        "HARDFIRST_THREADS": str(cores()),
        "HARDFIRST_PAUSE_S": "0",
        "HARDFIRST_WEBHOOK_SECRET": "bench-secret",
    }
    with (
        tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as temporary,
        Stage(Path(temporary), folder / "images", settings, tell) as stage,
    ):
        tasks = _project(stage, folder)
        stage.run("connect", "label-studio", "--project", str(stage.memory["project"]))
        store = open_store(f"sqlite:///{stage.home / 'hardfirst.db'}", stage.home)
        _await_training(store, stage.key)
        seconds = QUICK_SECONDS if quick else SECONDS
        tell(f"{RATE} requests/s for {seconds} s while round 1 trains on {cores()} cores")
        with report.measured():
            answers = _send(_schedule(stage, tasks, seconds))
        running = store.rounds.running(stage.key)
        hints = len(store.inbox.pending("label-studio", str(stage.memory["project"])))
        store.close()
    report.numbers = {**_numbers(answers), "hints_left": hints, "still_training": running is not None}
    if running is None:
        raise RuntimeError("the round ended before the measurement did: these figures are of an idle machine")
    report.goals = _goals(report.numbers)
    report.show(_table(report.numbers))
    return report


def _project(stage: Stage, folder: Path) -> list[int]:
    """Photographs of which half carry their labels, so that a round starts at once; returns the task ids."""
    files = sorted((folder / "images").iterdir())[: LABELLED + OPEN]
    oracle = FolderOracle(folder / "labels", inputs.class_names(folder))
    project = stage.project("bench", rectangles(oracle.classes), files)
    with stage.server.client() as http:
        query: dict[str, str | int] = {
            "project": project,
            "page_size": 1000,
            "fields": "task_only",
            "include": "id,data",
        }
        found = http.get("/api/tasks", params=query).raise_for_status().json()["tasks"]
        for task in found[:LABELLED]:
            boxes = oracle.answer(task["data"]["image"])
            answer = {"result": [_region(b) for b in boxes], "lead_time": 20.0}
            http.post(f"/api/tasks/{task['id']}/annotations", json=answer).raise_for_status()
    return [int(t["id"]) for t in found]


def _await_training(store: Store, key: str) -> None:
    """Until the child is past its start and really trains."""
    deadline = time.monotonic() + TRAINING_LIMIT_S
    while time.monotonic() < deadline:
        running = store.rounds.running(key)
        published = any(p.activated is not None for p in store.publications.all(key))
        if running is not None and published and running.progress.get("epoch", 0) >= 1:
            return
        time.sleep(0.5)
    raise TimeoutError(f"no round trained within {TRAINING_LIMIT_S:.0f} s")


def _schedule(stage: Stage, tasks: list[int], seconds: int) -> list[dict[str, Any]]:
    """One request every 1 / RATE seconds, the three endpoints in turn."""
    project = int(stage.memory["project"])
    json_type = {"Content-Type": "application/json"}
    signed = {**json_type, SECRET_HEADER: "bench-secret"}
    setup = json.dumps({"project": f"{project}.1795196587", "schema": "<View/>", "hostname": "http://localhost:8080"})
    made = []
    for i in range(RATE * seconds):
        name = ENDPOINTS[i % len(ENDPOINTS)]
        body = {"/health": "", "/setup": setup, "/webhook": _event(project, tasks[i % len(tasks)], i)}[name]
        headers = {"/health": {}, "/setup": json_type, "/webhook": signed}[name]
        method = "GET" if name == "/health" else "POST"
        made.append(
            {"at": i / RATE, "name": name, "method": method, "url": stage.url + name, "headers": headers, "body": body}
        )
    return made


def _event(project: int, task: int, number: int) -> str:
    """What Label Studio 1.23.2 posts after a submit, as recorded, about a real task of this project."""
    recorded = inputs.shared() / "contracts" / "label-studio" / "webhook.annotation_created.json"
    body = copy.deepcopy(json.loads(recorded.read_text())["body"])
    body["project"]["id"] = body["task"]["project"] = body["annotation"]["project"] = project
    body["task"]["id"] = body["annotation"]["task"] = task
    body["annotation"]["id"] = 1_000_000 + number
    return json.dumps(body)


def _send(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.open_loop"],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        cwd=inputs.ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    return list(json.loads(done.stdout))


def _numbers(answers: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"requests": len(answers), "failed": sum(not 200 <= a["status"] < 300 for a in answers)}
    for name in (*ENDPOINTS, "all"):
        seconds = [1000 * a["seconds"] for a in answers if name in (a["name"], "all")]
        p50, p99 = np.percentile(seconds, [50, 99]).tolist()
        found[name] = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "max_ms": round(max(seconds), 1)}
    late = [1000 * a["late"] for a in answers]
    found["sent_late_p99_ms"] = round(float(np.percentile(late, 99)), 1)
    found["sent_late_max_ms"] = round(max(late), 1)
    return found


def _goals(numbers: dict[str, Any]) -> list[Goal]:
    goals = [Goal(f"{name} p99 while training", numbers[name]["p99_ms"], P99_LIMIT_MS, "ms") for name in ENDPOINTS]
    slowest = Goal("slowest of all requests", numbers["all"]["max_ms"], MAX_LIMIT_MS, "ms")
    return [*goals, slowest, Goal("requests that failed", numbers["failed"], 0, "")]


def _table(numbers: dict[str, Any]) -> Table:
    title = f"{numbers['requests']} requests, {RATE}/s, from their due time; {numbers['failed']} failed"
    table = Table("endpoint", "p50, ms", "p99, ms", "max, ms", title=title)
    for name in (*ENDPOINTS, "all"):
        table.add_row(name, *(f"{numbers[name][k]:.1f}" for k in ("p50_ms", "p99_ms", "max_ms")))
    late = f"the client sent late by {numbers['sent_late_p99_ms']} ms (p99), {numbers['sent_late_max_ms']} ms at most"
    table.caption = late
    return table
