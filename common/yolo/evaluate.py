"""How good are these weights on that validation set: ``python -m common.yolo.evaluate WEIGHTS DATA_YAML --out FILE``.

Classes meet by name: weights that know other classes, or the same in another order, are measured fairly.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import logs
from common.average_precision import figures
from common.errors import HardfirstError, TrainingError
from common.lifeline import die_with
from common.yolo import dataset, files, offline


def evaluate(weights: Path, data_yaml: Path, imgsz: int, device: str = "auto") -> dict[str, float]:
    """Measure in this process, which ``offline.prepare`` has made ready.

    Args:
        weights: A detection checkpoint.
        data_yaml: As ``dataset.write_dataset`` writes it; its ``val`` is measured.
        imgsz: Pixels of the long side.
        device: See ``offline.device``.

    Returns:
        See ``average_precision.figures``. A class the weights do not know has 0.

    Raises:
        ModelError: Weights that cannot be loaded.
        TrainingError: No validation set, or not one image of it that can be read.
    """
    offline.load()
    from common.yolo import measuring

    if not (data_yaml.parent / "manifest.json").is_file():
        raise TrainingError(f"{data_yaml} is not a data.yaml that hardfirst wrote: it has no manifest.json beside it")
    found = measuring.measure(weights, data_yaml, imgsz, device)
    return figures(found, dataset.read_manifest(data_yaml.parent).classes)


def evaluate_in_child(
    weights: Path,
    data_yaml: Path,
    *,
    imgsz: int,
    home: Path,
    device: str = "auto",
    threads: int = 0,
    limit_s: float = 3600,
) -> dict[str, float]:
    """``evaluate`` in a child process; the same answer, and the same errors as TrainingError."""
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=data_yaml.parent) as folder:
        out = Path(folder) / "answer.json"
        command = [sys.executable, "-P", "-m", "common.yolo.evaluate", str(weights.resolve()), str(data_yaml.resolve())]
        command += [
            "--parent",
            str(os.getpid()),
            "--imgsz",
            str(imgsz),
            "--device",
            device,
            "--threads",
            str(threads),
            "--out",
            str(out),
        ]
        try:
            env = offline.child_env(home, threads)
            done = subprocess.run(command, env=env, cwd=folder, capture_output=True, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise TrainingError(f"measuring {weights} took longer than {limit_s:.0f} s and was stopped") from error
        answer = files.read_json(out) or {}
        if "metrics" not in answer:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise TrainingError(answer.get("message") or f"measuring {weights} failed: {lines[-1]}")
        return {name: float(value) for name, value in answer["metrics"].items()}


def main(argv: list[str] | None = None) -> int:
    """Measure and write ``{"metrics": ...}`` or ``{"message": ...}``."""
    parser = argparse.ArgumentParser(description="Measure WEIGHTS on the validation set of DATA_YAML.")
    parser.add_argument("weights", type=Path)
    parser.add_argument("data_yaml", type=Path)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--parent", type=int, default=0, help="die when this process dies")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(argv)
    if given.parent:
        die_with(given.parent)
    with logs.inherited("measuring", owns=bool(given.parent)):
        return _measure(given)


def _measure(given: argparse.Namespace) -> int:
    configured = os.environ.get("YOLO_CONFIG_DIR")
    offline.prepare(Path(configured).parent if configured else given.out.parent)
    try:
        offline.load()
        offline.limit_threads(given.threads)
        metrics = evaluate(given.weights, given.data_yaml, given.imgsz, given.device)
    except HardfirstError as error:
        files.write_json(given.out, {"message": str(error)})
        return 1
    files.write_json(given.out, {"metrics": metrics})
    return 0


if __name__ == "__main__":
    sys.exit(main())
