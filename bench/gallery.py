"""A project with as many samples as wanted, written by the store's own code: for the pages' benchmark and tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.domain import ClassMapping, Instances, Prediction, ProjectSpec, RemoteSample
from common.review import Disputed, Finding
from common.store import Store
from common.store.measurements import MeasurementRow
from common.store.publications import Place, PublicationRow

CLASSES = ("cat", "dog")
BASE = "0" * 64
UNREADABLE = "{}.png: the file is empty"
TOLD = "one box between cat and dog; nearest labelled image .31 away"


def fill(
    store: Store,
    key: str,
    count: int,
    *,
    title: str,
    imgsz: int,
    predicted: int,
    model: str = BASE,
    checkpoint: int | None = None,
    contents: Mapping[str, str] | None = None,
) -> PublicationRow:
    """The project is active, ``count`` samples are read and in the order; every tenth is of the random slice.

    Args:
        store: Where it is written.
        key: Of the project, which must be known.
        count: Samples '0' to count - 1; of every fifty the last cannot be read.
        title: Of the project.
        imgsz: At which the predictions were made.
        predicted: Samples, the first ones, that have a prediction.
        model: sha256 of the weights that said so.
        checkpoint: Their id, None = those the project began with.
        contents: Sample -> sha256 of its image, where it is a real one.
    """
    spec = ProjectSpec(title, tuple(ClassMapping(c, (c,)) for c in CLASSES), show_from=0.3)
    store.projects.update(key, state="active", spec=spec)
    store.samples.replace(key, [RemoteSample(str(i), f"{i}.png") for i in range(count)])
    real = contents or {}
    store.samples.fetched(key, [_read(n, r, real) for n, r in enumerate(store.samples.all(key))])
    looked = (str(i) for i in range(predicted))
    store.predictions.put(model, imgsz, [(real.get(i, digest(i)), said(int(i))) for i in looked])
    mixed = np.random.default_rng(0).permutation(count).astype(str).tolist()
    places = [Place(n, i, n / (count + 1), 1 - n / (count + 1), parts(n)) for n, i in enumerate(mixed, start=1)]
    made = store.publications.create(
        key, name="hardfirst", round_number=0, checkpoint=checkpoint, sha8=model[:8], places=places, seconds={}
    )
    store.publications.activate(made)
    return made


def plane(store: Store, made: PublicationRow) -> None:
    """A map of an order: every image that can be read, anywhere."""
    ids = np.array([s.id for s in store.samples.all(made.project) if s.sha256], np.int64)
    points = np.random.default_rng(0).uniform(-1, 1, (len(ids), 2)).astype(np.float32)
    store.maps.put(made.project, made.id, 1.0, ids, points)


def _read(n: int, row: Any, real: Mapping[str, str]) -> dict[str, Any]:
    bad = n % 50 == 49
    known = {"id": row.id, "sha256": None if bad else real.get(row.external, digest(row.external))}
    return {**known, "width": 640, "height": 480, "problem": UNREADABLE.format(row.external) if bad else ""}


def digest(sample: str) -> str:
    return hashlib.sha256(sample.encode()).hexdigest()


def said(i: int) -> Prediction:
    """Two boxes; of even images the first is a cat."""
    scores = np.array([[0.9, 0.1], [0.2, 0.6]] if i % 2 == 0 else [[0.1, 0.8], [0.2, 0.6]], np.float32)
    boxes = np.array([[40, 40, 300, 300], [320, 100, 600, 420]], np.float32)
    each = np.zeros(2, np.float32)
    return Prediction(Instances(boxes, scores), np.ones(4, np.float32), each, each, each, 640, 480)


def parts(n: int) -> dict[str, Any]:
    return {
        **{"A": 0.9, "T": 0.4, "distance": 0.31, "uncertain_boxes": n % 3, "rare_class": "dog" if n % 7 == 0 else None},
        **{"duplicate_group": 4 if n % 20 == 0 else None, "duplicate_group_size": 4 if n % 20 == 0 else 1},
        **{"random_slice": n % 10 == 0, "outlier": n % 100 == 0, "deferred": False, "regime": "mid"},
        "reason": "random slice, drawn by chance to measure against" if n % 10 == 0 else TOLD,
    }


def findings(count: int, reason: str = "the model sees a cat where nothing is drawn") -> list[Finding]:
    """One per sample from '0' on, the heaviest first."""
    box = (Disputed("cat", (0.1, 0.1, 0.5, 0.5), "model", 0.91),)
    return [Finding(str(i), "missed", 1 - i / (count + 1), reason, box, f"mark-{i}") for i in range(count)]


def rounds(store: Store, key: str, folder: str, values: Sequence[float]) -> None:
    """Finished rounds with such a mAP50 each, all measured on the newest one's images; the last one serves."""
    for n, map50 in enumerate(values, start=1):
        row = store.rounds.start(key, revision=n, labels=20 * n, reason="20 new labels", folder="/f", token=n)
        assert row is not None  # noqa: S101 - nothing else runs there
        store.rounds.update(row.id, split={"val": [str(i) for i in range(40)], "biased": [], "held": []})
        store.rounds.finish(
            row,
            path=f"{folder}/{n}.pt",
            sha256=weights(n),
            names=list(CLASSES),
            metrics={},
            message="",
            verdict="promoted" if n > 1 else "provisional",
            gate={"reason": f"promoted: mAP50-95 .{500 * map50:.0f} against the champion's .250"},
        )
    newest = len(values)
    store.measurements.add([_measured(key, newest, n, map50) for n, map50 in enumerate(values, start=1)])


def weights(number: int) -> str:
    """sha256 of a round's weights."""
    return f"{number}" * 64 if number < 10 else digest(str(number))


def _measured(key: str, newest: int, n: int, map50: float) -> MeasurementRow:
    names = {"map50": map50, "map5095": map50 / 2}
    ends = {f"{k}_{end}": v + by for k, v in names.items() for end, by in (("low", -0.05), ("high", 0.05))}
    classes = {f"ap50/{c}": map50 for c in CLASSES} | {f"ap5095/{c}": map50 / 2 for c in CLASSES}
    metrics = {**names, **ends, **classes, **{f"quality/{c}": 0.5 for c in CLASSES}}
    return MeasurementRow(key, newest, "checkpoint", n, weights(n), 20 * n, 40, 0, metrics, 1_000_000.0)
