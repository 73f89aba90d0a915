"""The stream: its rate, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from common.strategies import stream


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


def test_the_stream_refuses_what_is_no_utility():
    with pytest.raises(ValueError, match=r"utility must be in \[0, 1\], got nan"):
        stream.decide(stream.start(), float("nan"))
