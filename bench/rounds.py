"""Five rounds with a scripted oracle: `python -m bench.rounds [POOL ...]`: a real Label Studio, real trainings.

Every label passes through Label Studio in the order it serves; rounds are asked for at fixed numbers of labels, so that
pools can be compared. Results go to docs/rounds, one file per pool; `--report` prints the page's table from them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx

from bench import inputs
from bench.pools import photos
from bench.report import tell
from common.errors import HardfirstError
from common.experiments.backtest.data import load
from common.sample import draw
from common.sample.oracle import FolderOracle
from common.store import open_store
from common.yolo.dataset import write_dataset
from common.yolo.evaluate import evaluate_in_child
from ls_backend.demo.annotator import ScriptedAnnotator
from ls_backend.demo.stage import Stage
from ls_backend.label_config import rectangles

DOCS = inputs.ROOT / "docs" / "rounds"
LABELS = (16, 40, 80, 140, 220)
"""Labels in all when each round is asked for."""
PATIENCE_S = 3600.0
"""For one round on a busy machine."""
COLUMNS = ("round", "labels", "measured on", "mAP50", "mAP50-95", "held out mAP50-95", "gate", "advice")


@dataclass(frozen=True)
class Ground:
    """What one replay works on.

    Attributes:
        images: Folder of the pool's images, below the document root.
        oracle: Knows every answer.
        held_out: data.yaml whose validation split no round ever sees.
    """

    images: Path
    oracle: FolderOracle
    held_out: Path


def bccd(folder: Path) -> Ground:
    """Photographs of blood cells; the data set's own validation split is held out."""
    source = inputs.data_set("bccd")
    images = folder / "bccd"
    images.mkdir(parents=True)
    for photo in photos(source, "train"):
        shutil.copyfile(photo.path, images / photo.path.name)
    return Ground(images, FolderOracle(source / "labels", inputs.class_names(source)), source / "data.yaml")


def floor(folder: Path) -> Ground:
    """The drawn factory floor that `make demo` shows."""
    sample = draw(folder / "floor")
    return Ground(sample.images[0].parent, FolderOracle(sample.labels), sample.data_yaml)


GROUNDS: dict[str, Callable[[Path], Ground]] = {"bccd": bccd, "floor": floor}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(GROUNDS)))
@click.option("--imgsz", default=192, show_default=True, help="Pixels of the long side.")
@click.option("--updates", default=240, show_default=True, help="Optimizer steps of every round.")
@click.option("--report", is_flag=True, help="Play nothing; print the table of what is there.")
def main(names: tuple[str, ...], *, imgsz: int, updates: int, report: bool) -> None:
    """Play five rounds on POOLS (default: all) and print the table of docs/rounds.md."""
    for name in () if report else names or GROUNDS:
        played = play(name, imgsz, updates)
        DOCS.mkdir(exist_ok=True)
        (DOCS / f"{name}.json").write_text(json.dumps(played, indent=1) + "\n")
    print(table())


def table() -> str:
    """The results in docs/rounds as Markdown."""
    lines: list[str] = []
    for path in sorted(DOCS.glob("*.json")):
        played = json.loads(path.read_text())
        lines += [f"### {path.stem}: {played['images']} images, {played['imgsz']} px, {played['updates']} updates", ""]
        lines += [f"| {' | '.join(COLUMNS)} |", f"| {' | '.join('---' for _ in COLUMNS)} |"]
        lines += [f"| {' | '.join(_cells(r))} |" for r in played["rounds"]]
        lines.append("")
    return "\n".join(lines)


def _cells(r: dict[str, Any]) -> list[str]:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}".replace("0.", ".", 1)

    measured = [number(r[name]) for name in ("map50", "map5095", "held_out")]
    return [str(r["number"]), str(r["labels"]), f"{r['val']} images", *measured, r["gate"], r["advice"]]


def play(name: str, imgsz: int, updates: int) -> dict[str, Any]:
    """One pool, from its first 16 labels to its fifth round."""
    settings = {
        "HARDFIRST_IMGSZ": str(imgsz),
        "HARDFIRST_UPDATES": str(updates),
        "HARDFIRST_MIN_NEW_LABELS": "100",  # more than any step, so that a round only comes when it is asked for
        "HARDFIRST_RECONCILE_S": "5",
        "HARDFIRST_MODEL": str(inputs.weights()),
    }
    with tempfile.TemporaryDirectory(prefix="hardfirst-bench-") as temporary:
        root = Path(temporary)
        ground = GROUNDS[name](root)
        data = load(ground.held_out)
        held_out = write_dataset(root / "held-out", data.train[:1], data.val, data.classes)
        files = sorted(ground.images.iterdir())
        with Stage(root, ground.images, settings, tell) as stage:
            project = stage.project("rounds", rectangles(ground.oracle.classes), files)
            stage.run("connect", "label-studio", "--project", str(project))
            stage.wait(lambda: stage.queue()["version"] != "", "the first queue", PATIENCE_S)
            with stage.server.client() as http:
                annotator = ScriptedAnnotator(http, project, ground.oracle)
                rounds = [_round(stage, annotator, n, held_out, imgsz) for n in range(1, len(LABELS) + 1)]
    return {"images": len(files), "imgsz": imgsz, "updates": updates, "rounds": rounds}


def _round(stage: Stage, annotator: ScriptedAnnotator, number: int, held_out: Path, imgsz: int) -> dict[str, Any]:
    """Label up to the round's number, ask for it, wait for its end and for the queue it makes."""
    wanted = LABELS[number - 1]
    while _labels(stage) < wanted:
        for _ in range(wanted - _labels(stage)):
            annotator.label_next()
        stage.wait(lambda: _labels(stage) >= wanted, "the labels to be read", PATIENCE_S)
    stage.run("train", "--project", stage.key, "--now")
    stage.wait(lambda: _ended(stage, number), f"round {number}", PATIENCE_S)
    stage.wait(lambda: "sending" not in stage.status()["queue"], f"the queue of round {number}", PATIENCE_S)
    row, advice = _rounds(stage)[-1], _api(stage, "curve")["advice"]
    if row["state"] != "done":
        raise HardfirstError(f"round {number} {row['state']}: {row['reason']}")
    told = evaluate_in_child(_weights(stage, number), held_out, imgsz=imgsz, home=stage.home)
    tell(f"round {number}: {wanted} labels, {row['verdict']}, held out mAP50-95 {told['map5095']:.3f}")
    return {
        "number": number,
        "labels": wanted,
        "val": row["images"],
        "map50": row["map50"],
        "map5095": row["map5095"],
        "held_out": round(told["map5095"], 4),
        "gate": row["reason"],
        "advice": f"{advice['action']}: {advice['reason']}",
    }


def _weights(stage: Stage, number: int) -> Path:
    """What the round left, whether it serves or not."""
    store = open_store(f"sqlite:///{stage.home / 'hardfirst.db'}", stage.home)
    try:
        return next(Path(c.path) for c in store.rounds.checkpoints(stage.key) if c.round == number)
    finally:
        store.close()


def _api(stage: Stage, what: str) -> Any:
    asked = httpx.get(f"{stage.url}/api/{what}", params={"project": stage.key}, timeout=60, trust_env=False)
    return asked.raise_for_status().json()


def _rounds(stage: Stage) -> list[dict[str, Any]]:
    return list(_api(stage, "rounds")["rounds"])


def _ended(stage: Stage, number: int) -> bool:
    rounds = _rounds(stage)
    return len(rounds) >= number and rounds[-1]["state"] != "running"


def _labels(stage: Stage) -> int:
    """Usable labels that hardfirst knows of."""
    return int(stage.status()["labels"].split()[0])


if __name__ == "__main__":
    sys.exit(main())
