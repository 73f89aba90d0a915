"""A project with as many samples as wanted, written by the store's own code: order, predictions, rounds, findings."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from common.domain import ClassMapping, Instances, Prediction, ProjectSpec, RemoteSample
from common.review import Disputed, Finding
from common.store.measurements import MeasurementRow
from common.store.publications import Place, PublicationRow
from tests.fakes import World
from tests.unit.test_loop import KEY

CLASSES = ("cat", "dog")
BASE = "0" * 64


def fill(world: World, count: int, title: str = "Many pictures") -> PublicationRow:
    """The project is active, ``count`` samples are read and in the order; every tenth is of the random slice."""
    store = world.tools.store
    store.projects.ask("fake", "1")
    spec = ProjectSpec(title, tuple(ClassMapping(c, (c,)) for c in CLASSES), show_from=0.3)
    store.projects.update(KEY, state="active", spec=spec)
    store.samples.replace(KEY, [RemoteSample(str(i), f"{i}.png") for i in range(count)])
    rows = store.samples.all(KEY)
    read = [
        {"id": r.id, "sha256": None if n % 50 == 49 else digest(r.external), "width": 640, "height": 480}
        | {"problem": f"{r.external}.png: the file is empty" if n % 50 == 49 else ""}
        for n, r in enumerate(rows)
    ]
    store.samples.fetched(KEY, read)
    store.predictions.put(BASE, world.tools.settings.imgsz, [(digest(str(i)), said(i)) for i in range(min(count, 400))])
    mixed = np.random.default_rng(0).permutation(count).astype(str).tolist()
    places = [Place(n, i, n / (count + 1), 1 - n / (count + 1), parts(n)) for n, i in enumerate(mixed, start=1)]
    made = store.publications.create(
        KEY, name="hardfirst", round_number=0, checkpoint=None, sha8=BASE[:8], places=places, seconds={}
    )
    store.publications.activate(made)
    return made


def digest(sample: str) -> str:
    return hashlib.sha256(sample.encode()).hexdigest()


def said(i: int) -> Prediction:
    """Two boxes; of even images the first is a cat."""
    scores = np.array([[0.9, 0.1], [0.2, 0.6]] if i % 2 == 0 else [[0.1, 0.8], [0.2, 0.6]], np.float32)
    boxes = np.array([[40, 40, 300, 300], [320, 100, 600, 420]], np.float32)
    each = np.zeros(2, np.float32)
    return Prediction(Instances(boxes, scores), np.ones(4, np.float32), each, each, each, 640, 480)


def parts(n: int) -> dict[str, Any]:
    told = "one box between cat and dog; nearest labelled image .31 away"
    return {
        **{"A": 0.9, "T": 0.4, "distance": 0.31, "uncertain_boxes": n % 3, "rare_class": "dog" if n % 7 == 0 else None},
        **{"duplicate_group": 4 if n % 20 == 0 else None, "duplicate_group_size": 4 if n % 20 == 0 else 1},
        **{"random_slice": n % 10 == 0, "outlier": n % 100 == 0, "deferred": False, "regime": "mid"},
        "reason": "random slice, drawn by chance to measure against" if n % 10 == 0 else told,
    }


def rounds(world: World, *values: float) -> None:
    """Finished rounds with such a mAP50 each, all measured on the newest one's images; the last one serves."""
    store = world.tools.store
    for n, map50 in enumerate(values, start=1):
        row = store.rounds.start(KEY, revision=n, labels=20 * n, reason="20 new labels", folder="/f", token=n)
        assert row is not None
        store.rounds.update(row.id, split={"val": [str(i) for i in range(40)], "biased": [], "held": []})
        store.rounds.finish(
            row,
            path=str(world.folder / f"{n}.pt"),
            sha256=f"{n}" * 64,
            names=list(CLASSES),
            metrics={},
            message="",
            verdict="promoted" if n > 1 else "provisional",
            gate={"reason": f"promoted: mAP50-95 .{500 * map50:.0f} against the champion's .250"},
        )
    newest = len(values)
    store.measurements.add([_measured(newest, n, map50) for n, map50 in enumerate(values, start=1)])


def _measured(newest: int, n: int, map50: float) -> MeasurementRow:
    names = {"map50": map50, "map5095": map50 / 2}
    ends = {f"{k}_{end}": v + by for k, v in names.items() for end, by in (("low", -0.05), ("high", 0.05))}
    classes = {f"ap50/{c}": map50 for c in CLASSES} | {f"ap5095/{c}": map50 / 2 for c in CLASSES}
    metrics = {**names, **ends, **classes, **{f"quality/{c}": 0.5 for c in CLASSES}}
    return MeasurementRow(KEY, newest, "checkpoint", n, f"{n}" * 64, 20 * n, 40, 0, metrics, 1_000_000.0)


def review(world: World, count: int, reason: str = "the model sees a cat where nothing is drawn") -> None:
    box = (Disputed("cat", (0.1, 0.1, 0.5, 0.5), "model", 0.91),)
    found = [Finding(str(i), "missed", 1 - i / (count + 1), reason, box, f"mark-{i}") for i in range(count)]
    world.tools.store.reviews.record(KEY, 1, found, 1_000_000.0)
