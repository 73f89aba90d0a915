"""The stream: its rate, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from common.acquisition import AGGREGATIONS
from common.acquisition.detections import Detections
from common.strategies import Pool, stream
from common.strategies.image_value import Aggregated, plain_utility
from tests.contract.strategy_pools import ask


@pytest.mark.parametrize("rate", [0.05, 0.3])
@pytest.mark.parametrize("drift", [0.0, 0.6])
def test_the_stream_honours_its_rate_even_when_utilities_drift(rate, drift):
    rng = np.random.default_rng(0)
    state = stream.start([0.1, 0.2, 0.3], rate)
    for k in range(4000):
        _, state = stream.decide(state, float(np.clip(rng.random() * 0.4 + drift * k / 4000, 0, 1)))
    assert state.seen == 4000
    assert abs(state.queued / state.seen - rate) <= (1 + 2 * state.step) / (state.step * state.seen)


def test_the_stream_honours_its_rate_when_all_images_are_equally_informative():
    state = stream.start(rate=0.1)
    for _ in range(1000):
        _, state = stream.decide(state, 0.5)
    assert state.queued == pytest.approx(100, abs=22)


def _images(counts: list[int]) -> Pool:
    """Boxes that overlap no other, each as unsure as can be: an image is worth their number in bits."""
    n, m = len(counts), sum(counts)
    corner = np.repeat(np.arange(m), 2).reshape(m, 2) * 20
    detections = Detections(
        np.concatenate([[0], np.cumsum(counts)]),
        np.hstack([corner, corner + 9]).astype(np.float32),
        np.full((m, 1), 0.5, np.float32),
        np.zeros(n, np.float32),
        np.zeros(n, np.float32),
    )
    x = np.eye(n, dtype=np.float32)
    return Pool(x, detections, np.zeros(n, bool), np.zeros(1, np.int64), np.full(n, -1), np.ones(n, bool))


@pytest.mark.parametrize("aggregation", sorted(AGGREGATIONS))
def test_what_an_image_is_worth_does_not_depend_on_the_others_of_the_pool(aggregation):
    how = Aggregated(aggregation=aggregation, m=100)
    counts = [3, 0, 1, 100, 8]
    whole = plain_utility(_images(counts), how)
    for i, count in enumerate(counts):
        assert plain_utility(_images([count]), how)[0] == whole[i]


@pytest.mark.parametrize("aggregation", ["sum", "top_m"])
def test_a_sum_of_x_counts_as_x_over_1_plus_x_and_crowds_stay_first(aggregation):
    pool = _images([3, 0, 1, 100, 8])
    how = {"aggregation": aggregation, "m": 100}
    np.testing.assert_allclose(plain_utility(pool, Aggregated(**how)), [3 / 4, 0, 1 / 2, 100 / 101, 8 / 9])
    assert ask("top_utility", pool, **how).order.tolist() == [3, 4, 0, 2, 1]
    assert Aggregated(**how).scale.endswith(" x/(1+x)")
    assert Aggregated(acquisition="model_change", **how).scale == f"model_change {aggregation}" + (
        " m=100 overlap=0.5" if aggregation == "top_m" else ""
    )


@pytest.mark.parametrize("aggregation", ["sum", "top_m"])
def test_the_stream_keeps_its_rate_after_one_crowded_image(aggregation):
    """A level that was learnt before the crowd must mean the same after it."""
    how = Aggregated(aggregation=aggregation, m=100)
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, 50).tolist()
    state = stream.start(plain_utility(_images(counts), how), 0.1)
    queued = []
    for count in [100, *rng.integers(1, 9, 100).tolist()]:
        counts.append(count)
        now, state = stream.decide(state, float(plain_utility(_images(counts), how)[-1]))
        queued.append(now)
    assert queued[0]
    assert 5 <= sum(queued[1:]) <= 20


def test_the_stream_refuses_what_is_no_utility():
    with pytest.raises(ValueError, match=r"utility must be in \[0, 1\], got nan"):
        stream.decide(stream.start(), float("nan"))
