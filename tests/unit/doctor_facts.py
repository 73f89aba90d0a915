"""A healthy service and project for the doctor's checks, to plant one problem at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from common.config import Settings
from common.doctor.facts import Facts, Home, ProjectFacts
from common.doctor.reach import Reached
from common.domain import ClassMapping, ProjectSpec
from common.store.look import Pulse, Seen
from common.store.projects import ProjectRow
from common.yolo.look import Machine

NOW = 1_000_000.0
OURS = Reached(200, '{"model_class":"hardfirst","status":"UP"}', 0.0)
REFUSED = Reached(error="[Errno 111] Connection refused")
BASE = Path("/models/yolo11n.pt")
MACHINE = Machine("2.9.0+cu130", "13.0", "cuda:0", "NVIDIA H200", gpu=True, weights={str(BASE): ("cat", "dog")})


def facts(folder: Path, **changes: Any) -> Facts:
    settings = changes.pop("settings", None) or Settings(_env_file=None, home=folder)
    seen, made = Seen("ok", "schema '0003'"), Home(True, "", 2**40, 0o600)
    values = {"here": OURS, "outside": OURS, "machine": MACHINE, "base": BASE, "database": seen, "home": made}
    return Facts(settings, now=NOW, **values | changes)


def row(**changes: Any) -> ProjectRow:
    spec = ProjectSpec("Pets", (ClassMapping("cat"), ClassMapping("dog")))
    known: dict[str, Any] = dict.fromkeys(ProjectRow.__dataclass_fields__)
    known |= {"key": "fake:1", "platform": "fake", "external": "1", "title": "Pets", "state": "active", "reason": ""}
    known |= {"first_read": NOW - 5000}
    return ProjectRow(**known | {"spec": spec, "platform_state": {}, "settings": {}} | changes)


def project(best: Path, **changes: Any) -> ProjectFacts:
    beat = Pulse("here:77:1", NOW + 500, event=NOW - 300, answer=NOW - 301, recorded=NOW - 299)
    counts = {"samples": 50, "unreadable": 0}
    healthy = ProjectFacts(row(), beat, counts=counts, weights=best, names=("cat", "dog"), image="")
    return replace(healthy, **changes)
