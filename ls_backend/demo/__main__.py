"""`make demo`: start everything, show the queue, let the scripted annotator work, print what the order was worth."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from common import config, sample
from common.config import Settings
from common.errors import HardfirstError, SettingError
from common.sample.oracle import FolderOracle
from common.yolo.dataset import write_dataset
from common.yolo.models import YoloModels
from common.yolo.offline import cores
from ls_backend.demo.annotator import ScriptedAnnotator
from ls_backend.demo.comparison import Comparison, Row
from ls_backend.demo.stage import PASSWORD, Stage
from ls_backend.label_config import rectangles

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
HELD_OUT = 100
FIRST_QUEUE_LIMIT_S = 1800.0
ROUND_LIMIT_S = 3600.0
SMALL = {
    "HARDFIRST_IMGSZ": "320",
    "HARDFIRST_UPDATES": "60",
    "HARDFIRST_BATCH": "8",
    "HARDFIRST_THREADS": str(cores()),
    "HARDFIRST_PAUSE_S": "2",
    "HARDFIRST_RECONCILE_S": "30",
}
"""A round that two cores train in about a minute; the environment comes first."""

console = Console()


@dataclass(frozen=True)
class Work:
    """What the demo labels: images of the project, the label config, and who answers (None = you do)."""

    images: Path
    files: list[Path]
    label_config: str
    oracle: FolderOracle | None
    held_out: list[Path]


@click.command()
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Your own images.")
@click.option("--model", help="Weights to start from.")
@click.option(
    "--oracle", "labels_folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="YOLO labels."
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(".demo"), help="All state of the demo.")
@click.option("--rounds", default=3, show_default=True, help="Scripted rounds.")
@click.option("--labels", default=30, show_default=True, help="Labels per scripted round.")
@click.option("--exit", "leave", is_flag=True, help="Stop after the table instead of waiting for Ctrl-C.")
def main(
    images: Path | None,
    model: str | None,
    labels_folder: Path | None,
    folder: Path,
    rounds: int,
    labels: int,
    leave: bool,
) -> None:
    """Label Studio and hardfirst, running."""
    try:
        run(images, model, labels_folder, folder / (images.name if images else "sample"), rounds, labels, leave=leave)
    except HardfirstError as error:
        console.print(f"[red]{error}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("\nstopped; run it again to go on where it was")


def run(
    images: Path | None, model: str | None, labels: Path | None, folder: Path, rounds: int, budget: int, *, leave: bool
) -> None:
    """The demo, step by step."""
    began = time.monotonic()
    chosen = _environment(model, budget)
    work = _work(images, labels, folder, chosen)
    with Stage(folder, work.images, chosen, lambda text: console.print(f"[dim]{text}")) as stage:
        project = stage.project(
            f"hardfirst demo: {images.name if images else 'factory floor'}", work.label_config, work.files
        )
        stage.run("connect", "label-studio", "--project", str(project))
        _await_queue(stage, began)
        if work.oracle is not None:
            _scripted(stage, work, chosen, rounds, budget)
        _addresses(stage, project)
        while not leave:
            time.sleep(1)


def _environment(model: str | None, budget: int) -> dict[str, str]:
    """Settings of this run: what the user set stays."""
    small = {**SMALL, "HARDFIRST_MIN_NEW_LABELS": str(budget)}
    chosen = {name: os.environ.get(name, value) for name, value in small.items()}
    if model:
        path = Path(model).expanduser()
        chosen["HARDFIRST_MODEL"] = str(path.resolve()) if path.exists() or len(path.parts) > 1 else model
    return chosen


def _work(images: Path | None, labels: Path | None, folder: Path, chosen: dict[str, str]) -> Work:
    if images is None:
        return _sample(folder / "floor")
    files = sorted(p for p in images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise SettingError(f"IMAGES is {str(images)!r}, which holds no {', '.join(sorted(IMAGE_SUFFIXES))} file")
    if labels is None:
        return Work(images, files, rectangles(_model_names(folder, chosen)), None, [])
    oracle = FolderOracle(labels)
    answered = [f for f in files if f.stem in oracle]
    if len(answered) < 2:
        raise SettingError(f"ORACLE {str(labels)!r} answers for {len(answered)} of the {len(files)} images")
    held_out = answered[:: max(2, len(answered) // HELD_OUT)][:HELD_OUT]
    out = set(held_out)
    return Work(images, [f for f in answered if f not in out], rectangles(oracle.classes), oracle, held_out)


def _sample(folder: Path) -> Work:
    with _progress() as progress:
        task = progress.add_task("drawing the sample factory floor", visible=False)

        def drawn(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        made = sample.draw(folder, progress=drawn)
    oracle = FolderOracle(made.labels, made.classes)
    return Work(made.images[0].parent, list(made.images), rectangles(made.classes), oracle, list(made.held_out))


def _model_names(folder: Path, chosen: dict[str, str]) -> tuple[str, ...]:
    """What the model knows, so that its boxes are drawn at once; 'object' without a model."""
    model = YoloModels(_settings(folder, chosen)).base("")
    return model.names or ("object",)


def _await_queue(stage: Stage, began: float) -> None:
    with console.status("scoring and ordering the pool") as status:

        def ready() -> bool:
            row = stage.status()
            status.update(f"images: {row['images']}; queue: {row['queue']}")
            return bool(stage.queue()["version"])

        stage.wait(ready, "the first queue", FIRST_QUEUE_LIMIT_S)
    for entry in stage.status()["journal"]:
        if entry["level"] == "warning":
            console.print(entry["text"], style="yellow", markup=False)
    found = stage.queue(3)
    console.print(f"first queue [bold]{found['version']}[/] after {time.monotonic() - began:.0f} s; it begins with")
    for item in found["items"]:
        console.print(f"  {item['rank']}. task {item['id']}: {item['parts'].get('reason', '')}", markup=False)
    console.print(f"watch it at {stage.url}/", markup=False)


def _scripted(stage: Stage, work: Work, chosen: dict[str, str], rounds: int, budget: int) -> None:
    if work.oracle is None:
        return
    settings = _settings(stage.folder, chosen)
    held_out = _held_out(stage.folder / "held-out", work.held_out, work.oracle)
    comparison = Comparison(stage.folder / "replays", settings, work.oracle, work.files, held_out)
    rows: list[Row] = []

    def tell(text: str) -> None:
        console.print(f"[dim]{text}")

    try:
        for number in range(1, rounds + 1):
            served = _label_round(stage, work.oracle, number, budget)
            _await_round(stage, number)
            rows.append(comparison.served(served, tell))
            rows.append(comparison.uniform(len(served), tell))
            _table(rows, comparison, settings)
    finally:
        comparison.close()


def _settings(folder: Path, chosen: dict[str, str]) -> Settings:
    """The same settings for the replays, in a home of their own."""
    fields = {config.variable(f): f for f in Settings.model_fields}
    values = {fields[name]: value for name, value in chosen.items() if name in fields}
    return config.load(**values, home=folder / "replays" / "home")


def _held_out(folder: Path, files: list[Path], oracle: FolderOracle) -> Path:
    """A validation-only data set of the held-out images."""
    from common.domain import Label
    from common.ports import TrainingSample

    labels_beside = files[0].parent.parent / "labels"
    answers = FolderOracle(labels_beside, oracle.classes) if files[0].stem not in oracle else oracle
    samples = [TrainingSample(f.stem, f, Label(f.stem, tuple(answers.answer(f.stem)))) for f in files]
    return write_dataset(folder, samples[:1], samples, oracle.classes)


def _label_round(stage: Stage, oracle: FolderOracle, number: int, budget: int) -> list[str]:
    """Label until ``number * budget`` images are done; returns all names so far, in the order served."""
    served = list(stage.memory.get("served", []))
    with stage.server.client() as http, _progress() as progress:
        annotator = ScriptedAnnotator(http, int(stage.memory["project"]), oracle)
        task = progress.add_task(f"round {number}: labelling in the order served", total=budget)
        progress.update(task, completed=max(0, len(served) - (number - 1) * budget))
        while len(served) < number * budget:
            name = annotator.label_next()
            if name is None:
                break
            served.append(name)
            stage.remember(served=served)
            progress.advance(task)
    return served[: number * budget]


def _await_round(stage: Stage, number: int) -> None:
    """Until the round is done and its order is active."""
    from common.store import open_store

    store = open_store(f"sqlite:///{stage.home / 'hardfirst.db'}", stage.home)
    with console.status(f"round {number}: training, scoring, reordering") as status:

        def ready() -> bool:
            row = stage.status()
            status.update(f"round {number}: {row['training']}; queue: {row['queue']}")
            newest = store.rounds.newest(stage.key)
            if newest is not None and newest.number >= number and newest.state == "failed":
                raise HardfirstError(f"round {newest.number} failed: {newest.message}")
            version = stage.queue()["version"]
            return bool(version) and int(version.partition("@")[2].partition(".")[0]) >= number

        stage.wait(ready, f"round {number}", ROUND_LIMIT_S)
    store.close()


def _table(rows: list[Row], comparison: Comparison, settings: Settings) -> None:
    title = f"each order trained on all its labels, {settings.updates} updates; measured on {HELD_OUT} held-out images"
    table = Table("order", "labels", "mAP50", "mAP50-95", f"rare found ({', '.join(comparison.rare)})", title=title)
    for row in rows:
        table.add_row(row.order, str(row.labels), f"{row.map50:.3f}", f"{row.map5095:.3f}", f"{row.rare:.1f}")
    console.print(table)


def _addresses(stage: Stage, project: int) -> None:
    console.print(
        f"\n[bold]Label Studio[/]  {stage.server.url}/projects/{project}/data\n"
        f"  log in as [bold]{stage.server.username}[/] with [bold]{PASSWORD}[/], click [bold]Label All Tasks[/]: "
        "the hardest image comes first\n"
        f"[bold]hardfirst[/]     {stage.url}/\n"
        f"  the queue with its reasons, rounds, curve, map; a round starts by itself after enough new labels\n"
        "Ctrl-C stops both; run it again to go on where it was",
        highlight=False,
    )


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


if __name__ == "__main__":
    main()
