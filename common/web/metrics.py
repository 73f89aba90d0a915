"""What Prometheus reads; names and units by its conventions. What each figure means is in docs/metrics.md."""

from __future__ import annotations

import logging
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from threading import Lock
from typing import Any

import numpy as np
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from common.errors import HardfirstError
from common.loop.curve import summary
from common.loop.measures import box_kinds, model_age, query_to_label, read
from common.loop.savings import labels_saved
from common.loop.tools import Tools
from common.store.look import pulse
from common.store.projects import ProjectRow

REQUESTS = Counter("hardfirst_http_requests_total", "Requests answered", ["endpoint", "status"])
SECONDS = Histogram(
    "hardfirst_http_request_duration_seconds",
    "Time to answer",
    ["endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10, 100),
)

GAUGES = {
    "samples": "Samples of a project",
    "labelled_samples": "Samples with an answer",
    "unreadable_samples": "Samples whose image cannot be read",
    "queue_samples": "Samples of the active order that nobody has answered yet",
    "events_waiting": "Events of the platform that are due and that nobody has acted on",
    "events_waiting_seconds": "How long the oldest of them has waited, 0 without one",
    "worker_active": "1 while a worker holds the project",
    "round": "Newest finished round",
    "training_running": "1 while a round trains",
    "project_active": "1 while the project is served",
    "round_duration_seconds": "Time that the newest finished round took",
    "model_age_seconds": "Time since the serving model was trained",
    "labels_since_training": "Samples labelled since the labels that the serving model was trained on",
    "champion_map50_ratio": "mAP50 of the serving model at its last measurement",
    "champion_map50_low_ratio": "Lower end of its 90 % interval",
    "champion_map50_high_ratio": "Upper end of its 90 % interval",
    "champion_map5095_ratio": "mAP50-95 of the serving model at its last measurement",
    "champion_map5095_low_ratio": "Lower end of its 90 % interval",
    "champion_map5095_high_ratio": "Upper end of its 90 % interval",
    "labels_saved_ratio": "Share of labels that the order saved, by the newest control training",
}
"""Name behind hardfirst_ -> meaning; one value per project."""

QUANTILES = {
    "query_to_label_seconds": "From an image's place becoming active to its first label, newest 1000 answers",
    "lead_time_seconds": "Time people spent on an answer, newest 1000 answers",
}
ADVICE = ("continue", "stop", "wait")
OUTCOMES = ("promoted", "provisional", "kept", "failed", "cancelled")
FORMERLY = {"done": "promoted"}
"""Rounds of older versions have no verdict: whatever was done was promoted."""
KEPT_S = 30.0
"""What costs more than a look is computed anew after this long."""
NEWEST = 1_000
"""Figures about answers are of so many, the newest."""

log = logging.getLogger(__name__)


def observe(endpoint: str, status: int, seconds: float) -> None:
    """Count one answered request."""
    REQUESTS.labels(endpoint, str(status)).inc()
    SECONDS.labels(endpoint).observe(seconds)


Values = dict[str, Any]
"""Name of a metric -> its value; of one with another label: label -> value."""


class ProjectMetrics(Collector):
    """The figures of every project, as the store has them.

    Args:
        tools: Of the web process.
        clock: Seconds, only ever compared.
    """

    def __init__(self, tools: Tools, clock: Callable[[], float] = time.monotonic) -> None:
        self._tools = tools
        self._clock = clock
        self._kept: dict[str, tuple[float, Values]] = {}
        self._lock = Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def exposition(self) -> tuple[bytes, str]:
        """(what Prometheus reads, its content type)."""
        return generate_latest() + generate_latest(self._registry), CONTENT_TYPE_LATEST

    def describe(self) -> Iterable[Metric]:
        """Nothing: to be registered costs no look into the store."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One family per name, with every project that has a value."""
        values = {row.key: _now(self._tools, row) | self._slow(row) for row in self._tools.store.projects.all()}
        for name, meaning in GAUGES.items():
            yield _family(GaugeMetricFamily(f"hardfirst_{name}", meaning, labels=["project"]), values, name)
        for name, meaning in QUANTILES.items():
            yield _summary(SummaryMetricFamily(f"hardfirst_{name}", meaning, labels=["project"]), values, name)
        rounds = CounterMetricFamily("hardfirst_rounds", "Rounds that ended", labels=["project", "outcome"])
        yield _family(rounds, values, "rounds")
        boxes = "Boxes of the newest 1000 answers, by what people did"
        yield _family(
            GaugeMetricFamily("hardfirst_recent_boxes", boxes, labels=["project", "kind"]), values, "recent_boxes"
        )
        advice = StateSetMetricFamily("hardfirst_advice", "Whether further labels are worth it", labels=["project"])
        for key in (k for k in values if "advice" in values[k]):
            advice.add_metric([key], {state: values[key]["advice"] == state for state in ADVICE})
        yield advice
        yield InfoMetricFamily("hardfirst_build", "The version that answers", {"version": version("hardfirst")})

    def _slow(self, row: ProjectRow) -> Values:
        with self._lock:  # of ten readers at once one computes
            at, values = self._kept.get(row.key, (-KEPT_S, {}))
            if self._clock() - at >= KEPT_S:
                values = _figures(self._tools, row)
                self._kept[row.key] = self._clock(), values
        return values


def _family(family: Any, values: dict[str, Values], name: str) -> Any:
    for key, of in values.items():
        found = of.get(name)
        if isinstance(found, dict):
            for label, value in found.items():
                family.add_metric([key, label], value)
        elif found is not None:
            family.add_metric([key], found)
    return family


def _summary(family: Any, values: dict[str, Values], name: str) -> Any:
    """Only quantiles: they slide over the newest answers, so that there is no count or sum that only grows."""
    for key, of in values.items():
        for quantile, value in of.get(name, {}).items():
            family.add_sample(family.name, {"project": key, "quantile": quantile}, value)
    return family


def _now(tools: Tools, row: ProjectRow) -> Values:
    """What is looked up at every reading."""
    done = tools.store.rounds.newest(row.key, "done")
    return {
        "round": done.number if done else 0,
        "training_running": tools.store.rounds.running(row.key) is not None,
        "project_active": row.state == "active",
    }


def _figures(tools: Tools, row: ProjectRow) -> Values:
    """What is computed once in ``KEPT_S``; of a project whose settings are wrong, as much as there is without them."""
    counts = tools.store.samples.counts(row.key)
    names = {"samples": "samples", "labelled_samples": "answered", "unreadable_samples": "unreadable"}
    values = {name: counts[of] for name, of in names.items()} | _rounds(tools, row) | _answers(tools, row)
    values |= _waiting(tools, row)
    age = model_age(tools, row)
    values |= {"model_age_seconds": age["age_s"], "labels_since_training": age["labels_since"]}
    try:
        saved = labels_saved(tools, row)
        values |= _champion(tools, row) | {"advice": summary(tools, row)["advice"]["action"]}
    except HardfirstError as error:
        log.warning("%s: %s", row.key, error)
        return values
    return values | ({"labels_saved_ratio": saved["share"]} if isinstance(saved, dict) else {})


def _waiting(tools: Tools, row: ProjectRow) -> Values:
    """What waits for people, what waits for the worker, and whether there is one."""
    seen, now = pulse(tools.store, row.key), time.time()
    active = tools.store.publications.get(row.publication) if row.publication else None
    return {
        "queue_samples": tools.store.publications.open_places(active, 0)[1] if active else 0,
        "events_waiting": seen.waiting,
        "events_waiting_seconds": max(0.0, now - seen.oldest) if seen.oldest is not None else 0.0,
        "worker_active": bool(seen.owner) and (seen.until or 0.0) > now,
    }


def _rounds(tools: Tools, row: ProjectRow) -> Values:
    ended = [r for r in tools.store.rounds.all(row.key) if r.state != "running"]
    outcomes = Tally(r.verdict or FORMERLY.get(r.state, r.state) for r in ended)
    done = [r for r in ended if r.state == "done" and r.ended is not None]
    seconds = (done[-1].ended or 0.0) - done[-1].started if done else None
    return {"rounds": {o: outcomes[o] for o in OUTCOMES}, "round_duration_seconds": seconds}


def _answers(tools: Tools, row: ProjectRow) -> Values:
    answers = read(tools, row, NEWEST)
    waited, boxes = query_to_label(answers), box_kinds(answers)
    values: Values = {"recent_boxes": {kind: boxes[kind] for kind in ("accepted", "edited", "drawn")}}
    if isinstance(waited, dict):
        values["query_to_label_seconds"] = {"0.5": waited["median_s"], "0.9": waited["p90_s"]}
    spent = [a.lead_time for a in answers.all if a.lead_time is not None and a.lead_time > 0]
    if spent:
        median, late = np.quantile(spent, [0.5, 0.9]).tolist()
        values["lead_time_seconds"] = {"0.5": median, "0.9": late}
    return values


def _champion(tools: Tools, row: ProjectRow) -> Values:
    model, _ = tools.serving(row)
    measured = tools.store.measurements.newest(row.key, model.sha256)
    metrics = measured.metrics if measured else {}
    found = ((name, f"champion_{name}_ratio") for name in metrics if name.startswith("map"))
    return {ours: metrics[name] for name, ours in found}
