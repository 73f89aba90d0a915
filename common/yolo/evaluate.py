"""How good are these weights on that validation set: ``python -m common.yolo.evaluate WEIGHTS DATA_YAML --out FILE``.

Classes meet by name: weights that know other classes, or the same in another order, are measured fairly.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common.errors import HardfirstError, TrainingError
from common.lifeline import die_with
from common.yolo import files, offline

_BATCH = 16


def evaluate(weights: Path, data_yaml: Path, imgsz: int, device: str = "auto") -> dict[str, float]:
    """Measure in this process, which ``offline.prepare`` has made ready.

    Args:
        weights: A detection checkpoint.
        data_yaml: As ``dataset.write_dataset`` writes it; its ``val`` is measured.
        imgsz: Pixels of the long side.
        device: See ``offline.device``.

    Returns:
        ``map50`` and ``map5095``, means over the classes that occur in the validation set, and ``ap50/<class>`` and
        ``ap5095/<class>`` of each of them; in [0, 1]. A class the weights do not know has 0.

    Raises:
        ModelError: Weights that cannot be loaded.
        TrainingError: No validation set.
    """
    from common.yolo import weights as door

    wanted = _names(data_yaml)
    known = door.class_names(weights)
    with tempfile.TemporaryDirectory(prefix="evaluate-", dir=data_yaml.parent) as folder:
        translated, boxes = _translate(data_yaml, wanted, known, Path(folder))
        measured = _measure(weights, translated, imgsz, device, Path(folder)) if any(boxes.values()) else {}
    return _mean(measured, boxes)


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
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    configured = os.environ.get("YOLO_CONFIG_DIR")
    offline.prepare(Path(configured).parent if configured else given.out.parent)
    from common.yolo import training

    try:
        offline.load()
        training.limit_threads(given.threads)
        metrics = evaluate(given.weights, given.data_yaml, given.imgsz, given.device)
    except HardfirstError as error:
        files.write_json(given.out, {"message": str(error)})
        return 1
    files.write_json(given.out, {"metrics": metrics})
    return 0


def _names(data_yaml: Path) -> tuple[str, ...]:
    data = files.read_json(data_yaml)
    if data is None or not (data_yaml.parent / "val.txt").is_file():
        raise TrainingError(f"{data_yaml} is not a data.yaml that hardfirst wrote, or has no validation set")
    return tuple(data["names"])


def _translate(
    data_yaml: Path, wanted: tuple[str, ...], known: tuple[str, ...], folder: Path
) -> tuple[Path, dict[str, int]]:
    """The validation set in the model's own class numbers, and how many boxes each project class has."""
    index = {name: i for i, name in enumerate(known)}
    boxes = dict.fromkeys(wanted, 0)
    images, labels = folder / "images" / "val", folder / "labels" / "val"
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    names = []
    for line in (data_yaml.parent / "val.txt").read_text(encoding="utf-8").splitlines():
        image = data_yaml.parent / "images" / "val" / Path(line).name
        (images / image.name).symlink_to(image.resolve())
        names.append(f"{images / image.name}\n")
        source = data_yaml.parent / "labels" / "val" / f"{image.stem}.txt"
        rows = [row.split(" ", 1) for row in source.read_text().splitlines()]
        for number, _ in rows:
            boxes[wanted[int(number)]] += 1
        kept = (f"{index[wanted[int(number)]]} {rest}\n" for number, rest in rows if wanted[int(number)] in index)
        (labels / source.name).write_text("".join(kept))
    if not names:
        raise TrainingError(f"{data_yaml} has no validation set: a round needs labels in the random slice first")
    (folder / "val.txt").write_text("".join(names), encoding="utf-8")
    data = {"path": str(folder), "train": "val.txt", "val": "val.txt", "names": list(known)}
    (folder / "data.yaml").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return folder / "data.yaml", boxes


def _measure(weights: Path, data_yaml: Path, imgsz: int, device: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Class name -> (AP50, AP50-95) of the model's classes that occur."""
    from ultralytics import YOLO

    measured = YOLO(str(weights), task="detect").val(
        data=str(data_yaml),
        imgsz=max(64, imgsz),
        device=str(offline.device(device)).removeprefix("cuda:"),
        batch=_BATCH,
        workers=0,
        plots=False,
        verbose=False,
        project=str(folder),
        name="run",
        exist_ok=True,
    )
    box = measured.box
    return {measured.names[int(c)]: (float(box.ap50[i]), float(box.ap[i])) for i, c in enumerate(box.ap_class_index)}


def _mean(measured: dict[str, tuple[float, float]], boxes: dict[str, int]) -> dict[str, float]:
    present = [name for name, count in boxes.items() if count]
    pairs = {name: measured.get(name, (0.0, 0.0)) for name in present}
    n = max(1, len(present))
    answer = {"map50": sum(p[0] for p in pairs.values()) / n, "map5095": sum(p[1] for p in pairs.values()) / n}
    for name, pair in pairs.items():
        answer |= {f"ap50/{name}": pair[0], f"ap5095/{name}": pair[1]}
    return answer


if __name__ == "__main__":
    sys.exit(main())
