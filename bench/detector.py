"""What one pass with every signal costs, in CPU time, against what people run today."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bench import inputs
from bench.report import Goal, Report, tell
from common.domain import SCORE_FLOOR, Prediction
from common.store import open_store
from common.yolo import network, offline

BATCH = 16
"""Of predict and of the raw forward pass; the detector chooses its own."""
SLICE = 32
"""Images per call of the whole path, as the loop scores."""
SECOND_PASS = 224
REPEATS, QUICK_REPEATS = 5, 2
IMAGES, QUICK_IMAGES = {320: 128, 640: 64}, {320: 32, 640: 16}
PATH_LIMITS = {320: 1.25, 640: 1.12}
NAMES = {
    "one pass": "hardfirst: one pass, every default signal",
    "one pass, torch": "hardfirst: the same with HARDFIRST_ENGINE=torch",
    "list": "predict, a list of paths in chunks of 16",
    "txt": "predict, list.txt, batch 16, stream",
    "small": "predict, a list of paths in chunks as small as ours",
    "two passes": "predict, then an embedding pass image by image",
    "official": "predict and plot image by image, as the official backend",
    "path": "hardfirst: files to stored predictions",
    "path, torch": "hardfirst: the same with HARDFIRST_ENGINE=torch",
    "raw": "the forward pass alone, tensors loaded before",
}

Arm = Callable[[], object]


def run(*, quick: bool) -> Report:
    """One torch thread for everybody; quick: a quarter of the images, twice."""
    report = Report("detector", quick)
    photos = sorted((inputs.data_set("bccd") / "images").glob("*.jpg"))
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as temporary:
        offline.prepare(Path(temporary))
        offline.load()
        with report.measured():
            for size, images in (QUICK_IMAGES if quick else IMAGES).items():
                tell(f"{images} photographs at {size}")
                detector, plain = _detectors(size, Path(temporary) / "openvino")
                arms = _arms(photos[:images], size, Path(temporary), detector, plain)
                measured = _measure(arms, images, QUICK_REPEATS if quick else REPEATS)
                report.numbers[str(size)] = {**measured, "engine": detector.engine}
    report.goals = _goals(report.numbers)
    report.show(*(_table(size, numbers) for size, numbers in report.numbers.items()))
    return report


def _detectors(size: int, converted: Path) -> tuple[Any, Any]:
    """As HARDFIRST_ENGINE=auto chooses, and by torch."""
    from common.yolo.detector import YoloDetector

    auto, plain = (
        YoloDetector(inputs.weights(), size, "cpu", threads=1, engine=engine, converted=converted)
        for engine in ("auto", "torch")
    )
    return auto, plain


def _arms(photos: Sequence[Path], size: int, folder: Path, detector: Any, plain: Any) -> dict[str, Arm]:
    """Everything that is timed; at 640 only what its goals need."""
    from ultralytics import YOLO

    arms: dict[str, Arm] = {
        "one pass": lambda: detector.predict(photos),
        "one pass, torch": lambda: plain.predict(photos),
        "path": _Path(detector, photos, size, folder / f"store-{size}"),
        "path, torch": _Path(plain, photos, size, folder / f"store-{size}-torch"),
        "raw": _raw(plain, photos),
    }
    options = {"imgsz": size, "conf": SCORE_FLOOR, "device": "cpu", "verbose": False}
    names = [str(p) for p in photos]
    listed = folder / f"list-{size}.txt"
    listed.write_text("\n".join(names))
    txt, chunked, small, single, second = (YOLO(str(inputs.weights())) for _ in range(5))
    arms["txt"] = lambda: list(txt.predict(str(listed), batch=BATCH, stream=True, **options))

    def chunks(model: Any = chunked, batch: int = BATCH) -> None:
        for i in range(0, len(names), batch):
            model.predict(names[i : i + batch], **options)

    def official() -> None:
        for name in names:
            single.predict(name, imgsz=size, device="cpu", verbose=False)[0].plot()

    def two_passes() -> None:
        chunks()
        _embed(second, names)

    arms |= {"list": chunks, "small": lambda: chunks(small, plain.batch)}
    return arms if size != 320 else {**arms, "two passes": two_passes, "official": official}


class _Path:
    """Score files as the loop does and store what was said."""

    def __init__(self, detector: Any, photos: Sequence[Path], size: int, folder: Path) -> None:
        folder.mkdir()
        self._detector, self._photos, self._size = detector, photos, size
        self._store = open_store(f"sqlite:///{folder / 'hardfirst.db'}", folder)
        self._runs = 0

    def __call__(self) -> None:
        self._runs += 1
        for i in range(0, len(self._photos), SLICE):
            part = self._photos[i : i + SLICE]
            found = zip((p.name for p in part), self._detector.predict(part), strict=True)
            rows = [(name, answer) for name, answer in found if isinstance(answer, Prediction)]
            self._store.predictions.put(f"run {self._runs}", self._size, rows)


def _raw(detector: Any, photos: Sequence[Path]) -> Arm:
    """The stock network, fused and in the memory order ultralytics chooses, without any hook of ours."""
    import torch

    plain = network.load(inputs.weights(), 0)
    plain = network.for_inference(plain, torch.device("cpu"), half=False, end_to_end=None)
    frames = [detector._reader.read(p) for p in photos]
    batches = [detector._tensor(frames[i : i + BATCH]).contiguous() for i in range(0, len(frames), BATCH)]

    def forward() -> None:
        with torch.inference_mode():
            for x in batches:
                plain(x)

    return forward


def _embed(model: Any, names: Sequence[str]) -> None:
    """The second pass that people add for embeddings: the backbone's first ten layers, image by image."""
    import cv2
    import torch

    with torch.no_grad():
        for name in names:
            pixels = cv2.resize(cv2.imread(name), (SECOND_PASS, SECOND_PASS))
            x = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
            model.model.model[:10](x).mean((2, 3)).numpy()


def _measure(arms: dict[str, Arm], images: int, repeats: int) -> dict[str, Any]:
    """CPU milliseconds per image of each arm, interleaved, after one run that is not counted.

    In another order each time: the arm after a slow one pays for the memory that one gave back.
    """
    import torch

    spent: dict[str, list[float]] = {name: [] for name in arms}
    rng = np.random.default_rng(0)
    for repeat in range(-1, repeats):
        for name in rng.permutation(list(arms)).tolist():
            torch.set_num_threads(1)
            before = time.process_time()
            arms[name]()
            if repeat >= 0:
                spent[name].append(1000 * (time.process_time() - before) / images)
        tell(f"repeat {repeat + 1} of {repeats}")
    stock = min(("txt", "list", "small"), key=lambda name: statistics.median(spent[name]))
    numbers = {"cpu_ms": spent, "faster predict": stock}
    for engine, suffix in (("ratios", ""), ("ratios, torch", ", torch")):
        pairs = {"predict": (f"one pass{suffix}", stock), "path": (f"path{suffix}", "raw")}
        pairs |= {name: (f"one pass{suffix}", name) for name in ("two passes", "official") if name in arms}
        numbers[engine] = {name: _ratio(spent[ours], spent[theirs]) for name, (ours, theirs) in pairs.items()}
    return numbers


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over the repeats."""
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _goals(numbers: dict[str, Any]) -> list[Goal]:
    """Of what HARDFIRST_ENGINE=auto takes on this machine."""
    small, large = numbers["320"]["ratios"], numbers["640"]["ratios"]
    return [
        Goal("one pass, every signal / the fastest predict, at 320", small["predict"], 1.05, "x"),
        Goal("the same at 640", large["predict"], 1.05, "x"),
        Goal("one pass / predict and a second embedding pass, at 320", small["two passes"], round(1 / 1.5, 3), "x"),
        Goal("one pass / the official backend's way, at 320", small["official"], round(1 / 1.5, 3), "x"),
        Goal("files to stored predictions / raw forward, at 320", small["path"], PATH_LIMITS[320], "x"),
        Goal("the same at 640", large["path"], PATH_LIMITS[640], "x"),
    ]


def _table(size: str, numbers: dict[str, Any]) -> Table:
    spent = {name: statistics.median(values) for name, values in numbers["cpu_ms"].items()}
    repeats = len(numbers["cpu_ms"]["raw"])
    title = f"imgsz {size}, median of {repeats}, one thread; HARDFIRST_ENGINE=auto takes {numbers['engine']} here"
    table = Table("way", "CPU ms/image", "to one pass", "to it by torch", title=title)
    for name, text in NAMES.items():
        if name in spent:
            ratios = (f"{spent[name] / spent[ours]:.2f}" for ours in ("one pass", "one pass, torch"))
            table.add_row(text, f"{spent[name]:.1f}", *ratios)
    return table
