"""What the map of 80,000 images costs the worker, in CPU time and in slices; and beside scikit-learn's t-SNE of all.

Embeddings are made up: images of 100 scenes whose clouds overlap. The map is made by the product's own steps from
a store as the service writes it, reading included; scikit-learn has its embeddings in memory. Libraries are loaded
before, for both. t-SNE of 80,000 images would take many minutes, so both do a smaller number of them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bench import gallery
from bench.report import Goal, Report, tell
from common.compose import tools
from common.config import Settings
from common.domain import Floats, Ints
from common.loop.mapping import Mapping
from common.loop.projection import DIRECTIONS
from common.loop.scoring import SCORE_S
from common.store import Store, open_store

COUNT, QUICK_COUNT = 80_000, 4_000
BESIDE, QUICK_BESIDE = 5_000, 1_000
"""Images of the comparison."""
WIDTH, DEPTH, SCENES = 512, 32, 100
"""Numbers of an embedding, directions in which scenes differ, scenes."""
NEAR, LOOKED = 10, 1_000
"""Neighbours on the plane that are looked at, and of how many images."""
LIMIT = 0.5
KEY = "label-studio:1"
FULL = "(the embeddings themselves, without a map)"
OURS, TSNE, PLANE = "hardfirst: the map", "scikit-learn: PCA and t-SNE of all", "scikit-learn: PCA to two directions"


def run(*, quick: bool) -> Report:
    """The whole map once, then the comparison; quick: 4,000 images and 1,000."""
    report = Report("map", quick)
    count, beside = (QUICK_COUNT, QUICK_BESIDE) if quick else (COUNT, BESIDE)
    _load()
    with report.measured():
        whole = _ours(*_made_up(count))[0]
        ways = _beside(beside)
    ratio = ways[OURS]["cpu_s"] / ways[TSNE]["cpu_s"]
    report.numbers = {"whole": whole, "beside": beside, "ways": ways, "ratio": round(ratio, 3)}
    report.goals = [Goal(f"longest slice of {count:,} images, CPU", whole["longest_s"], SCORE_S, "s")]
    if not quick:  # of so few images t-SNE lays out every one, here and there
        report.goals.append(Goal(f"the map / {TSNE}, {beside:,} images", ratio, LIMIT, "x"))
    report.show(_whole_table(whole), _ways_table(beside, ways))
    return report


def _load() -> None:
    """What the first to use it would pay for."""
    import sklearn.decomposition
    import sklearn.manifold
    import sklearn.neighbors  # noqa: F401


def _made_up(count: int) -> tuple[Floats, Ints]:
    """(embeddings, shape (n, WIDTH); the scene of each)."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, SCENES, count)
    centres = rng.standard_normal((SCENES, DEPTH), np.float32)
    flat = centres[scene] + 0.9 * rng.standard_normal((count, DEPTH), np.float32)
    mix, noise = rng.standard_normal((DEPTH, WIDTH), np.float32), rng.standard_normal((count, WIDTH), np.float32)
    return flat @ mix + 0.5 * noise, scene


# --- ours ---------------------------------------------------------------------------------------------------


def _ours(rows: Floats, scene: Ints) -> tuple[dict[str, Any], float]:
    """(seconds, share of neighbours that are of the same scene)."""
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as folder:
        settings = Settings(_env_file=None, home=Path(folder), database_url=f"sqlite:///{folder}/hardfirst.db")
        store = open_store(settings.database, settings.folder)
        try:
            tell(f"{len(rows):,} samples are written")
            _write(store, settings, rows)
            tell("the map is made")
            found = {"images": len(rows), **_timed(Mapping(tools(settings, store)), store)}
            made = store.maps.get(KEY)
            assert made is not None  # noqa: S101 - else a slice would have raised
            external = {s.id: int(s.external) for s in store.samples.all(KEY)}
            there = np.array([external[i] for i in made.samples.tolist()], np.int64)
            return found, _kept(made.points, scene[there])
        finally:
            store.close()


def _write(store: Store, settings: Settings, rows: Floats) -> None:
    """A project in order, as a model of a round has seen it."""
    store.projects.ask("label-studio", "1")
    gallery.rounds(store, KEY, str(settings.folder), [0.5, 0.6])
    row, model = store.projects.get(KEY), gallery.weights(2)
    checkpoint = row.checkpoint if row else None
    gallery.fill(
        store, KEY, len(rows), title="Many", imgsz=settings.imgsz, predicted=0, model=model, checkpoint=checkpoint
    )
    said = gallery.said(0)
    found = [(gallery.digest(str(i)), replace(said, embedding=e)) for i, e in enumerate(rows)]
    store.predictions.put(model, settings.imgsz, found)


def _timed(work: Mapping, store: Store) -> dict[str, Any]:
    """Every slice until there is nothing left to do."""
    cpu, wall = [], []
    while True:
        row = store.projects.get(KEY)
        assert row is not None  # noqa: S101 - it was written
        began, at = time.process_time(), time.perf_counter()
        if not work.step(row):
            break
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - at)
    figures = {"cpu_s": sum(cpu), "longest_s": max(cpu), "wall_s": sum(wall), "longest_wall_s": max(wall)}
    return {"slices": len(cpu), **{name: round(seconds, 3) for name, seconds in figures.items()}}


# --- what one would do instead ------------------------------------------------------------------------------


def _beside(count: int) -> dict[str, dict[str, Any]]:
    """CPU seconds and kept neighbours of each way, one thread for scikit-learn as for us."""
    from threadpoolctl import threadpool_limits

    rows, scene = _made_up(count)
    ours, kept = _ours(rows, scene)
    found: dict[str, dict[str, Any]] = {
        OURS: {"cpu_s": ours["cpu_s"], "kept": kept},
        FULL: {"cpu_s": None, "kept": _kept(rows, scene)},
    }
    ways: dict[str, Callable[[Floats], Floats]] = {TSNE: _tsne, PLANE: _plane}
    for name, way in ways.items():
        tell(name)
        with threadpool_limits(1):
            began = time.process_time()
            points = way(rows)
            seconds = time.process_time() - began
        found[name] = {"cpu_s": round(seconds, 3), "kept": _kept(points, scene)}
    return found


def _tsne(rows: Floats) -> Floats:
    """As scikit-learn's manual advises: fewer directions first; else its defaults."""
    from sklearn import manifold
    from sklearn.decomposition import PCA

    few = PCA(DIRECTIONS, random_state=0).fit_transform(rows)
    points: Floats = manifold.TSNE(random_state=0).fit_transform(few)
    return points


def _plane(rows: Floats) -> Floats:
    from sklearn.decomposition import PCA

    points: Floats = PCA(2, random_state=0).fit_transform(rows)
    return points


def _kept(points: Floats, scene: Ints) -> float:
    """Share of the nearest neighbours on the plane that are of the image's own scene; by chance one in SCENES."""
    from sklearn.neighbors import NearestNeighbors

    looked = np.random.default_rng(1).permutation(len(points))[:LOOKED]
    near = NearestNeighbors(n_neighbors=NEAR + 1).fit(points).kneighbors(points[looked], return_distance=False)
    return round(float((scene[near[:, 1:]] == scene[looked, None]).mean()), 3)


def _whole_table(whole: dict[str, Any]) -> Table:
    table = Table("what", "CPU-s", "seconds", title=f"the map of {whole['images']:,} images, {WIDTH} numbers each")
    table.add_row(f"the whole, in {whole['slices']} slices", f"{whole['cpu_s']:.2f}", f"{whole['wall_s']:.2f}")
    table.add_row("the longest slice", f"{whole['longest_s']:.2f}", f"{whole['longest_wall_s']:.2f}")
    return table


def _ways_table(count: int, ways: dict[str, dict[str, Any]]) -> Table:
    head: Sequence[str] = ("way", "CPU-s", "to t-SNE", f"{NEAR} nearest of the same scene")
    table = Table(*head, title=f"{count:,} images, one thread")
    for name, of in ways.items():
        spent = of["cpu_s"]
        cells = ("", "") if spent is None else (f"{spent:.2f}", f"{spent / ways[TSNE]['cpu_s']:.2f}")
        table.add_row(name, *cells, f"{of['kept']:.0%}")
    return table
