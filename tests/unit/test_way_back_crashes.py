"""The way back when the process dies at any step of it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.loop.way_back import ask_way_back
from tests.unit import test_crash_points as crash
from tests.unit.test_loop import KEY
from tests.unit.way_back_world import KeptModels, row_of

stock = crash.stock
_quick_order = crash._quick_order


def prepared(stock: Path, folder: Path, keep: int) -> crash.Life:
    """A round is done and its order serves; ``keep`` = 1: the rows of the one before are gone."""
    life = tuned(crash.begin(stock, folder), keep)
    life.settle()
    life.label("100", "101", "102")
    life.settle()
    for wait in (61, 1000, 1000):
        life.world.clock[0] += wait
        life.settle()
    life.world.tools.store.close()
    return life


def tuned(life: crash.Life, keep: int) -> crash.Life:
    settings = life.world.tools.settings.model_copy(update={"keep_publications": keep})
    life.world.tools = replace(life.world.tools, models=KeptModels(life.world.folder), settings=settings)
    return life


def way_back(before: crash.Life, folder: Path, keep: int, at: int = -1) -> crash.Life:
    """A person goes back; the process dies at moment ``at`` since then."""
    life = tuned(crash.begin(before.world.folder, folder, at), keep)
    for name in ("answers", "rows", "active", "state", "stored"):
        setattr(life.platform, name, deepcopy(getattr(before.platform, name)))
    life.world.clock[0] = before.world.clock[0]
    ask_way_back(life.world.tools, row_of(life.world))
    life.settle()
    life.world.clock[0] += 1000
    life.settle()
    return life


def restored(life: crash.Life) -> dict[str, Any]:
    store = life.world.tools.store
    row = row_of(life.world)
    assert row.publication is not None
    publication = store.publications.get(row.publication)
    known = {p.version for p in store.publications.all(KEY) if p.state != "gone"}
    return {
        "project": (row.state, row.reason, row.way_back, row.checkpoint, row.order_asked, row.arrivals),
        "active": (life.platform.active == publication.version, publication.round, publication.state),
        "served": life.platform.order(),
        "sent": (publication.sent == publication.total, publication.in_flight),
        "rows": life.platform.stored[publication.version] == publication.rows,
        "ledger": {v for v, n in life.platform.stored.items() if n} - known,
        "half-made": [p.state for p in store.publications.all(KEY) if p.state in ("building", "sending")],
        "labels": {s: [a.id for a in found] for s, found in store.labels.at(KEY).items()},
    }


@pytest.mark.parametrize("keep", [1, 2])
def test_a_crash_at_any_step_of_the_way_back_ends_where_an_undisturbed_one_does(
    keep: int, stock: Path, tmp_path: Path
) -> None:
    before = prepared(stock, tmp_path / "before", keep)
    calm_life = way_back(before, tmp_path / "calm", keep)
    moments, wanted = calm_life.bomb.passed, restored(calm_life)
    assert wanted["project"] == ("active", "", {}, None, None, {})
    assert wanted["active"] == (True, 0, "active")
    assert len(wanted["served"]) == crash.IMAGES - 3
    assert ("publish" in moments) == (keep == 1)
    for at in range(len(moments)):
        life = way_back(before, tmp_path / str(at), keep, at)
        assert life.crashed == [moments[at]]
        assert restored(life) == wanted, (at, moments[at])
