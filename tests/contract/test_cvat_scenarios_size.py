"""What a CVAT project costs in requests, and that one of 5,000 jobs is no different."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

from tests.contract.cvat_life import Life, near_duplicates_fixture, photo  # noqa: F401 - a fixture


def kinds(requests: list[tuple[str, str]]) -> Counter[str]:
    """Requests by method and path, without query, and 'N' for a number."""
    return Counter(f"{method} {re.sub('[0-9]+', 'N', path.partition('?')[0])}" for method, path in requests)


LISTS = ("jobs", "tasks", "labels", "memberships", "organizations", "webhooks")
JOB, SHAPES = "/api/jobs/N", "/api/jobs/N/annotations/"


def costs(found: Counter[str], *, chunks: int, tasks: int, written: int, given: int, jobs: int) -> None:
    """What may be asked for. ``written`` jobs got boxes, ``given`` jobs an annotator."""
    pages = -(-jobs // 100)
    assert found["GET /api/tasks/N/data/"] == chunks
    assert found["GET /api/tasks/N/data/meta"] <= 2 * tasks
    assert found["GET /api/jobs"] <= 6 * pages
    assert sum(found[f"GET /api/{name}"] for name in LISTS[1:]) <= 16
    # A job that is written to is read before (is it free, is a person's shape in it?) and after; one that is handed out
    # is read before and after. Which frames are deleted is known by the task.
    assert found[f"PATCH {SHAPES}"] == written
    assert found[f"PATCH {JOB}"] == given
    assert found[f"GET {SHAPES}"] == 2 * written
    assert found[f"GET {JOB}"] == 2 * written + 2 * given
    assert found["GET /api/jobs/N/data/meta"] == 0
    counted = ("GET /api/tasks/N/data/", "GET /api/tasks/N/data/meta", f"GET {JOB}", f"GET {SHAPES}")
    lists = {f"GET /api/{name}" for name in LISTS}
    rest = {k: n for k, n in found.items() if k.startswith("GET") and k not in {*counted, *lists}}
    assert sum(rest.values()) <= 12, rest


def test_a_first_connection_costs_chunks_and_two_reads_a_task_and_one_write_a_job(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=4, images=50, job=5) as life:
        life.connect()
        life.settle()
        costs(kinds(life.cvat.log), chunks=4, tasks=4, written=40, given=4, jobs=40)


def test_with_nothing_to_do_a_comparison_costs_a_few_lists(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=4, images=50, job=5) as life:
        life.connect()
        life.settle()
        life.compare()
        life.cvat.log.clear()
        life.compare()
        found = kinds(life.cvat.log)
        assert {k.partition(" ")[0] for k in found} == {"GET"}
        assert sum(found.values()) <= 12, found
        assert all("N" not in k or k == "GET /api/projects/N" for k in found), found


def test_a_project_of_five_thousand_jobs_hands_out_and_refills_as_a_small_one(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=0) as life:
        images = [(f"{n:05}.png", photo(n % 40)) for n in range(5000)]
        life.tasks = [life.cvat.add_task(life.project, "large", images, segment_size=1)]
        assert len(life.jobs) == 5000
        start = time.monotonic()
        life.connect()
        life.settle(until=lambda: [len(life.inbox(name)) for name in ("anna", "ben")] == [2, 2])
        values = life.values()
        handed = [j.id for name in ("anna", "ben") for j in life.inbox(name)]
        assert sorted(handed) == sorted(sorted(values, key=lambda n: (-values[n], n))[:4])
        life.cvat.log.clear()
        job = life.inbox("anna")[0]
        life.finish("anna", job)
        life.settle(until=lambda: len(life.inbox("anna")) == 2)
        assert kinds(life.cvat.log)["GET /api/jobs"] <= 52
        assert time.monotonic() - start < 120
        assert life.doubles() == []
        assert life.told() == life.truth()
