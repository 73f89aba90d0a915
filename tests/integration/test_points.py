"""Directions held by torch: the same answers as numpy's, on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from common.cli import main
from common.errors import SettingError
from common.strategies.farthest_first import Deficit, Points, farthest_first
from common.strategies.screening import typicality
from common.yolo import points as device_points
from common.yolo.points import DevicePoints

pytestmark = pytest.mark.integration


def _devices() -> list[str]:
    import torch

    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


DEVICES = pytest.mark.parametrize("device", _devices())


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles and chunks even for small inputs, and tiers within that stay on the device."""
    monkeypatch.setattr(device_points, "_NUMBERS", {"cpu": 1 << 14, "cuda": 1 << 14})
    monkeypatch.setattr(device_points, "_CHUNK", 64)
    monkeypatch.setattr(device_points, "_SMALL", 1024)


def _features(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 24)).astype(np.float32)
    x[: n // 4] = x[n // 2 : n // 2 + n // 4] + 0.01 * rng.standard_normal((n // 4, 24)).astype(np.float32)
    x[[5, 6]] = np.nan
    return x


def _greedy_within(x: np.ndarray, order: np.ndarray, anchors: np.ndarray, factor, slack: float) -> None:
    """Every pick has, at its time, the greatest value up to ``slack``; computed in float64."""
    unit = x.astype(np.float64)
    unit[~np.isfinite(unit).all(axis=1)] = 0
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.divide(unit, length, out=np.zeros_like(unit), where=length > 0)
    nowhere = length[:, 0] == 0

    def apart(row):
        if nowhere[row]:
            return np.where(nowhere, 0.0, 4.0)
        return np.where(nowhere, 1.0, ((unit - unit[row]) ** 2).sum(axis=1))

    near, free = np.full(len(x), 4.0), np.ones(len(x), bool)
    for row in anchors:
        near, free[row] = np.minimum(near, apart(row)), False
    for place, row in enumerate(order):
        value = np.where(free, np.sqrt(near) * factor(order[:place]), -1)
        assert value[row] >= value.max() - slack
        near, free[row] = np.minimum(near, apart(row)), False


@DEVICES
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_picks_are_the_greatest_at_their_time_and_numpys(device, kind):
    x, anchors = _features(6000).astype(kind), np.array([1, 2])
    got = farthest_first(DevicePoints(x, device), 700, anchors=anchors)
    _greedy_within(x.astype(np.float32), got.order[:150], anchors, lambda _: 1.0, 1e-6)
    np.testing.assert_array_equal(got.order, farthest_first(Points(x), 700, anchors=anchors).order)


@DEVICES
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rows_of_any_length_are_held_by_their_direction(device, kind):
    x = _features(3000).astype(kind) * kind(2.0) ** np.random.default_rng(0).choice([-90, 0, 120], (3000, 1))
    got = farthest_first(DevicePoints(x, device), 200, anchors=np.array([1]))
    np.testing.assert_array_equal(got.order, farthest_first(Points(_features(3000)), 200, anchors=np.array([1])).order)


@DEVICES
def test_the_deficit_factor_is_heeded(device):
    rng = np.random.default_rng(1)
    x, anchors = _features(6000), np.array([9])
    presence = (rng.random((6000, 3)) * (rng.random((6000, 3)) < 0.2)).astype(np.float32)
    deficit = Deficit(presence, presence * 2, 50.0, np.array([45.0, 30, 0]))

    def factor(before):
        return deficit.factor(presence, deficit.have + deficit.amount[before].sum(axis=0, dtype=np.float64))

    got = farthest_first(DevicePoints(x, device), 150, anchors=anchors, deficit=deficit)
    _greedy_within(x, got.order, anchors, factor, 1e-6)


@DEVICES
def test_distances_neighbours_and_memory_are_those_of_numpy(device):
    x = _features(3000)
    ours, theirs = DevicePoints(x, device), Points(x)
    rows, anchors = np.arange(0, 3000, 3), np.arange(5, 900, 7)
    for some in (rows, None):
        near = np.full(len(x) if some is None else len(some), 4, np.float32)
        picks = theirs.take(anchors)
        (apart, place), (wanted, at) = ours.closest(some, picks, near), theirs.closest(some, picks, near)
        np.testing.assert_allclose(apart, wanted, atol=2e-6)
        np.testing.assert_array_equal(place, at)
    np.testing.assert_allclose(typicality(ours, rows, anchors), typicality(theirs, rows, anchors), atol=1e-5)
    np.testing.assert_allclose(
        ours.covered(anchors, rows).squared[rows], theirs.covered(anchors, rows).squared[rows], atol=2e-6
    )


def test_products_stay_exact_in_a_process_that_asked_for_quick_ones():
    import torch

    x = _features(2000)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        got = farthest_first(DevicePoints(x, "cpu"), 50, anchors=np.array([0]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(got.order, farthest_first(Points(x), 50, anchors=np.array([0])).order)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_said(device):
    with pytest.raises(SettingError, match=f"--device is '{device}', which this machine does not have"):
        DevicePoints(np.ones((3, 2), np.float32), device)


@DEVICES
@pytest.mark.parametrize("strategy", ["core_set", "hybrid"])
def test_select_orders_on_a_device_as_in_memory(tmp_path: Path, device, strategy):
    np.save(tmp_path / "x.npy", _features(5000)[:, :12])
    orders = {}
    for where in ("cpu", f"{device}:0"):
        words = ["--embeddings", "x.npy", "--budget", "200", "--strategy", strategy, "--out", "order.npy"]
        words = [str(tmp_path / w) if w.endswith(".npy") else w for w in words]
        result = CliRunner().invoke(main, ["select", *words, "--device", where])
        assert result.exit_code == 0, result.output
        orders[where] = np.load(tmp_path / "order.npy")
    np.testing.assert_array_equal(*orders.values())
