"""The way back on a real Label Studio: the next task and the boxes in it are those of the former queue.

The model and its training are stand-ins, see ``test_recovery``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_recovery import ByNameModels, Desk, desk  # noqa: F401 - desk is a fixture

from common.loop.way_back import ask_way_back
from common.ports import Model

pytestmark = pytest.mark.e2e


class KeptModels(ByNameModels):
    """Its weights stay where they are, as those in a model folder do."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def install(self, trained: Path) -> Model:
        made = super().install(trained)
        path = self._folder / f"{made.sha256[:8]}.pt"
        path.write_bytes(b"weights")
        return dataclasses.replace(made, path=path)


def shown(here: Desk) -> dict[str, Any]:
    """Task -> (score, boxes) that Label Studio shows of the active version."""
    return {str(p["task"]): (p["score"], p["result"]) for p in here.predictions(here.version)}


def served(here: Desk, count: int) -> list[str]:
    """The next tasks that a person gets; each is answered, as skipping would change the order."""
    tasks = []
    for _ in range(count):
        tasks.append(str(here.json("GET", f"/api/projects/{here.project}/next")["id"]))
        here.submit(tasks[-1])
    return tasks


def two_rounds(here: Desk, folder: Path, keep: int) -> list[tuple[str, list[str], dict[str, Any]]]:
    """(version, order, what is shown) of each queue that served."""
    here.tools.models = KeptModels(folder)
    here.tools.settings = here.settings.model_copy(update={"keep_publications": keep})
    here.connect()
    queues = []
    for number in range(3):
        if number:
            here.round()
            here.later()
        found = shown(here)
        queues.append((here.version, sorted(found, key=lambda t: found[t][0]), found))
    return queues


def go_back(here: Desk, to: str | None = None) -> None:
    ask_way_back(here.tools, here.row, to)
    here.settle()


@pytest.mark.parametrize("keep", [3, 1], ids=["rows still there", "rows gone"])
def test_the_next_task_and_its_boxes_are_those_of_the_queue_gone_back_to(
    desk: Callable[..., Desk],  # noqa: F811
    tmp_path: Path,
    keep: int,
) -> None:
    here = desk(tasks=20)
    (first, first_order, first_shown), (second, second_order, second_shown), (third, _, _) = two_rounds(
        here, tmp_path, keep
    )
    assert first.startswith("hardfirst@0.1-")
    assert here.version == third
    assert any(boxes for _, boxes in second_shown.values())
    assert not any(boxes for _, boxes in first_shown.values())
    there = here.json("GET", "/api/predictions/", project=here.project)
    assert {p["model_version"] for p in there} == ({first, second, third} if keep == 3 else {third})
    human = here.human()

    go_back(here)
    answered = {task for task, _, _ in here.known()}
    assert here.version == (second if keep == 3 else f"hardfirst@1.4-{second[-8:]}")
    assert here.row.checkpoint == here.store.rounds.checkpoints(here.key)[0].id
    open_now = [t for t in second_order if t not in answered]
    now = shown(here)
    assert {t: now[t][0] for t in open_now} == {t: second_shown[t][0] for t in open_now}
    assert [drawn(now[t]) for t in open_now] == [drawn(second_shown[t]) for t in open_now]
    assert here.human() == human
    assert served(here, 3) == open_now[:3]

    here.settle()
    go_back(here)
    assert here.version == (first if keep == 3 else f"hardfirst@0.5-{first[-8:]}")
    assert here.row.checkpoint is None
    answered = {task for task, _, _ in here.known()}
    assert served(here, 3) == [t for t in first_order if t not in answered][:3]
    assert {k: v for k, v in here.human().items() if k in human} == human


def drawn(row: tuple[float, list[dict[str, Any]]]) -> list[Any]:
    """Boxes without the ids that Label Studio gives them."""
    return [(r["value"], r.get("score")) for r in row[1]]


def test_a_queue_that_served_before_can_be_gone_forward_to_and_nothing_is_left_behind(
    desk: Callable[..., Desk],  # noqa: F811
    tmp_path: Path,
) -> None:
    here = desk(tasks=20)
    (first, _, _), _, (third, order, _) = two_rounds(here, tmp_path, 3)
    go_back(here, first)
    assert here.version == first
    go_back(here, third)
    assert here.version == third
    assert served(here, 2) == order[:2]
    known = {p.version for p in here.store.publications.all(here.key) if p.state != "gone"}
    there = {p["model_version"] for p in here.json("GET", "/api/predictions/", project=here.project)}
    assert there == known == {p.version for p in here.store.publications.all(here.key)}
