"""The demo's table: every order is trained on all of its labels, by the same hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from common.config import Settings
from common.sample.oracle import FolderOracle
from ls_backend.demo.comparison import REPLAYS, Comparison

FILES = [f"floor-{i:02}.v1.jpg" for i in range(12)]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What each replay was trained on; its mAP is a thousandth per label."""
    seen: dict[str, list[str]] = {}

    def train(_: Comparison, name: str, chosen: Sequence[str]) -> Path:
        seen[name] = list(chosen)
        return Path(name)

    def measure(_: Comparison, weights: Path) -> dict[str, float]:
        return {"map50": len(seen[weights.name]) / 1000, "map5095": 0.1}

    monkeypatch.setattr(Comparison, "_train", train)
    monkeypatch.setattr(Comparison, "_measure", measure)
    return seen


def compared(tmp_path: Path, **given: Any) -> Comparison:
    """Twelve images of a gear; every fourth has a crack."""
    labels = tmp_path / "labels"
    labels.mkdir(exist_ok=True)
    for i, name in enumerate(FILES):
        crack = "1 .2 .2 .1 .1\n" if i % 4 == 0 else ""
        (labels / name).with_suffix(".txt").write_text(f"0 .5 .5 .2 .2\n{crack}")
    oracle = FolderOracle(labels, ("gear", "crack"))
    settings = Settings(_env_file=None, home=tmp_path / "home", **given)
    return Comparison(tmp_path / "replays", settings, oracle, [tmp_path / f for f in FILES], tmp_path / "data.yaml")


def test_the_order_served_is_trained_on_all_its_labels_as_uniform_orders_are(
    tmp_path: Path, trained: dict[str, list[str]]
) -> None:
    comparison = compared(tmp_path)
    row = comparison.served(FILES[3:9], lambda _text: None)
    other = comparison.uniform(6, lambda _text: None)
    assert trained.pop("served-6") == [Path(f).stem for f in FILES[3:9]]
    assert [len(chosen) for chosen in trained.values()] == [6] * REPLAYS
    assert (row.labels, row.map50) == (other.labels, pytest.approx(other.map50)) == (6, pytest.approx(0.006))
    assert row.rare == 2


def test_what_was_measured_is_not_measured_again_unless_it_is_trained_otherwise(
    tmp_path: Path, trained: dict[str, list[str]]
) -> None:
    first = compared(tmp_path).served(FILES[:4], lambda _text: None)
    trained.clear()
    assert compared(tmp_path).served(FILES[:4], lambda _text: None) == first
    assert not trained
    compared(tmp_path, updates=7).served(FILES[:4], lambda _text: None)
    assert list(trained) == ["served-4"]
