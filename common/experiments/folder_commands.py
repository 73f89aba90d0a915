"""`hardfirst rank` and `hardfirst watch`: parse, call, format."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from common import config
from common.errors import ModelError, SettingError

if TYPE_CHECKING:
    from common.config import Settings
    from common.experiments.journal import Journal
    from common.experiments.rank import Report
    from common.ports import Model, Models

TOP = 5
"""Images named on the terminal."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

_FLAGS = {
    "strategy": "--strategy",
    "acquisition": "--acquisition",
    "strategy_options": "--option",
    "committee": "--committee",
    "imgsz": "--imgsz",
    "seed": "--seed",
}
"""Settings that the command line may say otherwise, and how it calls them."""

_model = click.option("--model", help="Weights (.pt), or an architecture (.yaml) for a cold start.  [HARDFIRST_MODEL]")
_imgsz = click.option("--imgsz", type=int, help="Pixels of the long side, a multiple of 32.  [HARDFIRST_IMGSZ]")
_committee = click.option("--committee", help="Second looks: flip, half, heads, weights.  [HARDFIRST_COMMITTEE]")
_device = click.option("--device", help="auto, cpu, mps, 0.  [HARDFIRST_DEVICE]")


@click.command()
@click.argument("source", metavar="FOLDER", type=click.Path(path_type=Path))
@_model
@click.option("--labelled", type=click.Path(path_type=Path), help="List of images that have a label: paths or names.")
@click.option("--budget", type=int, help="Places wanted; default all.")
@click.option("--strategy", help="Query strategy.  [HARDFIRST_STRATEGY]")
@click.option(
    "--option", "strategy_options", multiple=True, metavar="NAME=VALUE", help="Of the strategy; may be repeated."
)
@click.option("--acquisition", help="Acquisition function of one instance.  [HARDFIRST_ACQUISITION]")
@_committee
@click.option("--classes", help="Only these classes of the model count: a,b.")
@click.option("--data", type=click.Path(path_type=Path), help="data.yaml whose names are the classes.")
@click.option("--random-slice", type=float, default=0.0, help="Share of images served by chance, such as .1.")
@_imgsz
@_device
@click.option("--seed", type=int, help="Of everything random.  [HARDFIRST_SEED]")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option(
    "--sheet", is_flag=False, flag_value="", metavar="[FILE]", help="Also a picture of the first 24 (.png, .jpg)."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The order, as CSV.")
def rank(source: Path, out: Path, *, as_json: bool, **given: Any) -> None:
    """Order the images of a folder: which to label first, and why. No platform needed.

    FOLDER is a folder of images (with all folders in it) or a .txt list of paths. What was scored once is kept under
    HARDFIRST_HOME: after Ctrl-C, or with more images, the same command scores only what is new.

    Example: hardfirst rank photos --model yolo11n.pt --out order.csv --sheet
    """
    from common.experiments.rank import Request, run
    from common.experiments.ranking import Wish
    from common.store import open_store
    from common.strategies import REGISTRY

    settings = _settings(given)
    if given["acquisition"] and "acquisition" not in REGISTRY[settings.strategy].options.__dataclass_fields__:
        raise SettingError(f"--acquisition is given, but strategy {settings.strategy!r} uses none: leave it out")
    sheet = None if given["sheet"] is None else Path(given["sheet"] or out.with_suffix(".png"))
    wish = Wish(given["budget"], given["random_slice"])
    request = Request(source, out, wish, given["labelled"], _names(given["classes"]), given["data"], sheet)
    models, model = open_model(settings)
    store = open_store(settings.database, settings.folder)
    try:
        with _progress("scoring", quiet=as_json) as tell:
            report = run(request, settings, store, models, model, tell)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what was scored is kept, the same command goes on from there")
        raise SystemExit(INTERRUPTED) from None
    finally:
        store.close()
    _tell(report, as_json=as_json)


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@_model
@click.option("--rate", default=0.1, show_default=True, help="Share of the images that is queued.")
@click.option("--interval", default=2.0, show_default=True, help="Seconds between two looks at the folder.")
@click.option("--out", default="queue.csv", show_default=True, type=click.Path(path_type=Path), help="The decisions.")
@click.option("--once", is_flag=True, help="Decide what is there, then end.")
@click.option("--requeue", multiple=True, metavar="IMAGE", help="Put an image into the queue by hand; end.")
@click.option("--unqueue", multiple=True, metavar="IMAGE", help="Take an image out of the queue by hand; end.")
@click.option("--acquisition", help="Acquisition function of one instance.  [HARDFIRST_ACQUISITION]")
@_committee
@click.option("--classes", help="Only these classes of the model count: a,b.")
@_imgsz
@_device
def watch(folder: Path, out: Path, requeue: tuple[str, ...], unqueue: tuple[str, ...], **given: Any) -> None:
    """Score images as they arrive in a folder; queue the share of them that teaches the model most.

    --out is a CSV that only grows: a line per decision, `queued` yes or no, the last line of an image (by its content,
    column sha256) counts. A restart goes on from it; the same content is never decided twice.

    Example: hardfirst watch incoming --model yolo11n.pt --rate .1 --out queue.csv
    """
    from common.experiments.journal import Journal
    from common.experiments.watch import reverse

    journal = Journal(out)
    for names, queued in ((requeue, True), (unqueue, False)):
        for name in names:
            image = Path(name) if Path(name).is_file() else folder / name
            line = reverse(journal, image, queued=queued)
            say(f"{line.path}: {line.reason}")
    if not (requeue or unqueue):
        with journal.alone():
            _watch(folder, journal, given)


def _watch(folder: Path, journal: Journal, given: dict[str, Any]) -> None:
    from common.experiments.journal import queue
    from common.experiments.ranking import project_classes
    from common.experiments.scoring import Scorer
    from common.experiments.watch import Judge, Watcher
    from common.store import open_store

    settings = _settings(given)
    models, model = open_model(settings)
    classes = project_classes(model, _names(given["classes"]))
    if not classes.columns:
        raise SettingError(f"--model is {settings.model!r}, which knows no class: watch needs trained weights (.pt)")
    store = open_store(settings.database, settings.folder)
    try:
        watcher = Watcher(
            folder,
            journal,
            Scorer(store, models, model, settings),
            Judge(classes, settings.acquisition),
            rate=given["rate"],
            max_bytes=int(settings.max_image_mb * 2**20),
            hear=lambda line: say(f"{'queued' if line.queued == 'yes' else 'kept':<6}  {line.path}  {line.reason}"),
            complain=_note,
        )
        watcher.run(given["interval"], once=given["once"])
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here")
    else:
        for path in watcher.unfinished:
            _note(f"{path}: left alone, it is still being written")
    finally:
        store.close()
    lines = journal.lines()
    say(f"{len({line.sha256 for line in lines})} images decided, {len(queue(lines))} in the queue: {journal.path}")


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _note(text: str) -> None:
    from common.experiments.files import plain

    text = plain(Path(text))
    Console(stderr=True).print(f"note: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _settings(given: dict[str, Any]) -> Settings:
    """The service's settings, with what was given on the command line in their place, checked.

    Raises:
        UnknownNameError: A strategy, an acquisition function, an aggregation or a view that is not registered.
        SettingError: A value that is not allowed.
    """
    from common.loop.project_settings import check

    base = config.load(**{name: given[name] for name in ("model", "device") if given[name] is not None})
    own = {name: given[name] for name in _FLAGS if given.get(name) not in (None, ())}
    settings = config.for_project(base, own)
    check(settings, lambda field: _FLAGS[field] if field in own else config.variable(field))
    settings.folder.mkdir(parents=True, exist_ok=True)
    return settings


def open_model(settings: Settings) -> tuple[Models, Model]:
    """The weights that ``settings`` name.

    Raises:
        SettingError: They are not there, and no cold start was asked for by naming an architecture.
        ModelError: They are broken or unsafe.
    """
    from common.yolo.models import YoloModels

    models = YoloModels(settings)
    name = settings.model
    places = [Path(name).expanduser(), *([settings.models / name] if len(Path(name).parts) == 1 else [])]
    try:
        model = models.base("")
    except ModelError as error:
        if any(place.is_file() for place in places):
            raise
        raise SettingError(f"--model is {name!r}, but there is no such file: give the path of a .pt file") from error
    if not model.usable and not name.endswith(".yaml"):
        raise SettingError(f"--model: {model.reason}")
    return models, model


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on the error stream with the time that is left; (done, all) moves it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell(report: Report, *, as_json: bool) -> None:
    s = report.summary
    if as_json:
        click.echo(json.dumps({**s, "top": report.rows[:TOP], "notes": report.notes}, indent=2))
        return
    for note in report.notes:
        _note(note)
    counts = f"{s['scored']} scored now, {s['cached']} known before, {len(s['unreadable'])} unreadable"
    say(f"{s['images']} images: {counts}, {s['labelled']} labelled")
    if s["duplicates"]:
        say(f"{s['duplicates']} of them are near-duplicates of each other, groups: {s['duplicate_groups']}")
    say(f"order of {s['ranked']} images: {s['order']}")
    if s["sheet"]:
        say(f"contact sheet: {s['sheet']}")
    for row in report.rows[:TOP]:
        say(f"{row['rank']:>3}  {row['utility']:.2f}  {row['path']}  {row['reason']}")


def say(text: str) -> None:
    """One line, as long as it is."""
    from common.experiments.files import plain

    Console().print(plain(Path(text)), markup=False, highlight=False, soft_wrap=True)
