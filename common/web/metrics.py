"""What Prometheus reads; names and units by its conventions."""

from __future__ import annotations

from threading import Lock

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

from common.store import Store

REQUESTS = Counter("hardfirst_http_requests_total", "Requests answered", ["endpoint", "status"])
SECONDS = Histogram(
    "hardfirst_http_request_duration_seconds",
    "Time to answer",
    ["endpoint"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 10, 100),
)
SAMPLES = Gauge("hardfirst_samples", "Samples of a project", ["project"])
LABELLED = Gauge("hardfirst_labelled_samples", "Samples with an answer", ["project"])
UNREADABLE = Gauge("hardfirst_unreadable_samples", "Samples whose image cannot be read", ["project"])
ROUND = Gauge("hardfirst_round", "Newest finished round", ["project"])
TRAINING = Gauge("hardfirst_training_running", "1 while a round trains", ["project"])
ACTIVE = Gauge("hardfirst_project_active", "1 while the project is served", ["project"])


def observe(endpoint: str, status: int, seconds: float) -> None:
    """Count one answered request."""
    REQUESTS.labels(endpoint, str(status)).inc()
    SECONDS.labels(endpoint).observe(seconds)


_lock = Lock()


def exposition(store: Store) -> tuple[bytes, str]:
    """(what Prometheus reads, its content type), with the gauges as the store has them now."""
    with _lock:  # two readers at once would each clear what the other is setting
        _collect(store)
        return generate_latest(), CONTENT_TYPE_LATEST


def _collect(store: Store) -> None:
    for gauge in (SAMPLES, LABELLED, UNREADABLE, ROUND, TRAINING, ACTIVE):
        gauge.clear()
    for row in store.projects.all():
        counts = store.samples.counts(row.key)
        SAMPLES.labels(row.key).set(counts["samples"])
        LABELLED.labels(row.key).set(counts["answered"])
        UNREADABLE.labels(row.key).set(counts["unreadable"])
        done = store.rounds.newest(row.key, "done")
        ROUND.labels(row.key).set(done.number if done else 0)
        TRAINING.labels(row.key).set(store.rounds.running(row.key) is not None)
        ACTIVE.labels(row.key).set(row.state == "active")
