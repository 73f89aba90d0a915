"""What each second look costs, in passes: CPU time against the bare forward pass and suppression of the same tensors.

Images are decoded and resized beforehand. The bare pass has no signals and no guard against batch neighbours, and goes
in batches as the detector chooses them, or of 16 where that is faster; the default is all that `YoloDetector.predict`
does after decoding.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from bench import inputs
from bench.report import Goal, Report, tell
from common.domain import SCORE_FLOOR
from common.ports import VIEWS

IMGSZ = 320
IMAGES, REPEATS = 64, 5
LARGE = 16
LIMIT = 1.1
BARE, LARGER = "bare forward and suppression", f"the same in batches of {LARGE}"
DEFAULT, TORCH = "the one pass: all default signals", "the same with HARDFIRST_ENGINE=torch"
MEMBER = "one further checkpoint"

Arm = Callable[[], None]


def run(*, quick: bool) -> Report:
    """64 photographs of bccd, YOLO11n, one thread, median of 5 interleaved repeats; quick: 16 and 3."""
    from common.yolo import offline

    report = Report("committee", quick)
    files = sorted((inputs.data_set("bccd") / "images").iterdir())[: 16 if quick else IMAGES]
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as home:
        offline.prepare(Path(home))
        arms = _arms(files, Path(home) / "openvino")
        for name, arm in arms.items():
            tell(f"warming up: {name}")
            arm()
        with report.measured():
            seconds = _interleaved(arms, 3 if quick else REPEATS)
    fastest = min(BARE, LARGER, key=lambda name: median(seconds[name]))
    passes = {n: median(s / bare for s, bare in zip(seconds[n], seconds[fastest], strict=True)) for n in arms}
    extra = {n: median(_extra(seconds, n, fastest)) for n in arms if n not in (BARE, LARGER, DEFAULT, TORCH)}
    report.numbers = {
        "images": len(files),
        "imgsz": IMGSZ,
        "bare": fastest,
        "cpu_s": seconds,
        "passes": passes,
        "extra_passes": extra,
    }
    report.goals = [Goal("the default, to the bare pass", passes[DEFAULT], LIMIT, "passes")]
    report.show(_table(report.numbers))
    return report


def _extra(seconds: dict[str, list[float]], name: str, bare: str) -> list[float]:
    """What a look adds to the default, in bare passes, per repeat."""
    each = zip(seconds[name], seconds[DEFAULT], seconds[bare], strict=True)
    return [(with_it - default) / bare for with_it, default, bare in each]


def _arms(files: Sequence[Path], converted: Path) -> dict[str, Arm]:
    from common.yolo.detector import YoloDetector

    def detector(engine: str = "auto", **wanted: Any) -> YoloDetector:
        return YoloDetector(inputs.weights(), IMGSZ, "cpu", threads=1, engine=engine, converted=converted, **wanted)

    default = detector()
    batches = _batches(default, files, default.batch)
    looks: dict[str, dict[str, Any]] = {**{v: {"views": [v]} for v in VIEWS}, MEMBER: {"members": [inputs.weights()]}}
    made = {DEFAULT: default, TORCH: detector("torch"), **{name: detector(**wanted) for name, wanted in looks.items()}}

    def scoring(one: YoloDetector) -> Arm:
        def arm() -> None:
            for frames in batches:
                one._forward(frames)

        return arm

    bare = {BARE: _bare(batches), LARGER: _bare(_batches(default, files, LARGE))}
    return bare | {name: scoring(one) for name, one in made.items()}


def _batches(detector: Any, files: Sequence[Path], size: int) -> list[list[Any]]:
    """Frames of one shape, at most ``size`` together, as ``predict`` would put them."""
    shapes: dict[tuple[int, ...], list[Any]] = {}
    for _, frame in detector._reader.frames(files, ahead=size):
        shapes.setdefault(frame.pixels.shape, []).append(frame)
    return [frames[i : i + size] for frames in shapes.values() for i in range(0, len(frames), size)]


def _bare(batches: list[list[Any]]) -> Arm:
    """The network as `YOLO.predict` runs it, on tensors, and its suppression; nothing else."""
    import numpy as np
    import torch
    from ultralytics.utils.nms import non_max_suppression

    from common.yolo import heads, network

    device = torch.device("cpu")
    ready = network.for_inference(network.load(inputs.weights(), 0), device, half=False, end_to_end=None)
    stacked = [torch.from_numpy(np.stack([f.pixels for f in frames])) for frames in batches]
    tensors = [s.permute(0, 3, 1, 2).float().div_(255) for s in stacked]

    def arm() -> None:
        with torch.inference_mode():
            for x in tensors:
                out = ready(x)
                out = out[0] if isinstance(out, tuple | list) else out
                non_max_suppression(out, SCORE_FLOOR, heads.IOU, max_det=300, max_time_img=1e9)

    return arm


def _interleaved(arms: dict[str, Arm], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of every arm, all arms once per repeat, so that a busy minute meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(1, repeats + 1):
        tell(f"repeat {repeat} of {repeats}")
        for name, arm in arms.items():
            began = time.process_time()
            arm()
            seconds[name].append(time.process_time() - began)
    return seconds


def _table(n: dict[str, Any]) -> Table:
    table = Table("look", "passes", "added", title=f"{n['images']} photographs at {n['imgsz']}, one thread")
    for name, passes in n["passes"].items():
        added = n["extra_passes"].get(name)
        table.add_row(name, f"{passes:.2f}", "" if added is None else f"{added:+.2f}")
    return table
