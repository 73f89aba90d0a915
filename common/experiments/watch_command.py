"""`hardfirst watch`: parse, call, format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.errors import SettingError
from common.experiments import command_line
from common.experiments.command_line import (
    acquisition_option,
    classes_of,
    committee_option,
    device_option,
    imgsz_option,
    model_option,
    note,
    say,
    settings_of,
)
from common.terminal import note as tell_person

if TYPE_CHECKING:
    from common.config import Settings
    from common.experiments.journal import Journal, Line
    from common.experiments.ranking import Classes
    from common.experiments.scoring import Scorer


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@model_option
@click.option("--rate", default=0.1, show_default=True, help="Share of the images that is queued.")
@click.option("--interval", default=2.0, show_default=True, help="Seconds between two looks at the folder.")
@click.option("--out", default="queue.csv", show_default=True, type=click.Path(path_type=Path), help="The decisions.")
@click.option("--once", is_flag=True, help="Decide what is there, then end.")
@click.option("--restart", is_flag=True, help="Begin anew; the old --out is kept under another name.")
@click.option("--requeue", multiple=True, metavar="IMAGE", help="Put an image into the queue by hand; end.")
@click.option("--unqueue", multiple=True, metavar="IMAGE", help="Take an image out of the queue by hand; end.")
@acquisition_option
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="deduplicate=false: near-duplicates are queued too.",
)
@committee_option
@click.option("--classes", help="Only these classes of the model count: a,b.")
@imgsz_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="For scripts: an object per decision, one per line.")
def watch(folder: Path, out: Path, requeue: tuple[str, ...], unqueue: tuple[str, ...], **given: Any) -> None:
    """Score images as they arrive in a folder; queue the share of them that teaches the model most.

    --out is a CSV that only grows: a line per decision, `queued` yes or no, the last line of an image (by its content,
    column sha256) counts. The same command goes on from it; the same content is never decided twice, and what looks
    like an image that came before is kept, not queued.

    Example: hardfirst watch incoming --model yolo11n.pt --rate .1 --out queue.csv
    """
    from common.experiments.journal import Journal, is_queue
    from common.experiments.output import followed, require_file, require_place, weights_of
    from common.experiments.watch import require, reverse

    require_file("--out", out)
    journal = Journal(followed(out))
    if given["restart"] and (requeue or unqueue):
        raise SettingError("--restart begins anew, --requeue and --unqueue change what is there: give one of them")
    for names, queued in ((requeue, True), (unqueue, False)):
        for name in names:
            image = Path(name) if Path(name).is_file() else folder / name
            line = reverse(journal, image, queued=queued)
            _hear(line) if given["as_json"] else say(f"{line.path}: {line.reason}")
    if not (requeue or unqueue):
        require(folder, given["rate"], given["interval"])
        classes_of(given["classes"])
        deduplicate, settings = _deduplicate(given["options"]), settings_of(given)
        require_place("--out", out, settings, weights_of(settings), is_queue)
        with journal.alone():
            _watch(folder, journal, settings, given, deduplicate=deduplicate)


def _watch(folder: Path, journal: Journal, settings: Settings, given: dict[str, Any], *, deduplicate: bool) -> None:
    from common.experiments.journal import queue
    from common.experiments.judge import Judge
    from common.experiments.ranking import project_classes
    from common.experiments.scoring import Scorer
    from common.experiments.watch import Watcher
    from common.opening import opened

    hear = _hear if given["as_json"] else _tell
    models, model = command_line.open_model(settings)
    classes = project_classes(model, classes_of(given["classes"]))
    if not classes.columns:
        raise SettingError(f"--model is {settings.model!r}, which knows no class: watch needs trained weights (.pt)")
    try:
        with opened(settings) as store:
            scorer = Scorer(store, models, model, settings)
            for sentence in scorer.notes:
                note(sentence)
            _begin(journal, scorer, settings, classes, given)
            watcher = Watcher(
                folder,
                journal,
                scorer,
                Judge(classes, settings.acquisition),
                rate=given["rate"],
                deduplicate=deduplicate,
                max_bytes=int(settings.max_image_mb * 2**20),
                hear=hear,
                complain=note,
            )
            watcher.run(given["interval"], once=given["once"])
    except KeyboardInterrupt:
        tell_person("stopped; the same command goes on from here")
    else:
        for path in watcher.unfinished:
            note(f"{path}: left alone, it is still being written")
    lines = journal.lines()
    decided, queued = len({line.sha256 for line in lines}), len(queue(lines))
    if given["as_json"]:
        click.echo(json.dumps({"decided": decided, "queued": queued, "out": str(journal.path)}))
    else:
        say(f"{decided} images decided, {queued} in the queue: {journal.path}")


def _tell(line: Line) -> None:
    say(f"{'queued' if line.queued == 'yes' else 'kept':<6}  {line.path}  {line.reason}")


def _hear(line: Line) -> None:
    """Seen at once by who reads the pipe."""
    click.echo(json.dumps({**asdict(line), "queued": line.queued == "yes"}))


def _begin(journal: Journal, scorer: Scorer, settings: Settings, classes: Classes, given: dict[str, Any]) -> None:
    from common.experiments import made_with
    from common.experiments.watch import now

    old = journal.set_aside() if given["restart"] else None
    if old is not None:
        (note if given["as_json"] else say)(f"{journal.path} begins anew; what was in it is {old}")
    model = scorer.model
    made = made_with.MadeWith(
        model.sha256,
        model.path.name,
        settings.imgsz,
        scorer.looks,
        tuple(sorted(classes.names)),
        settings.acquisition,
    )
    made_with.begin(journal, made, now(), note)


def _deduplicate(options: Sequence[str]) -> bool:
    """The one option of hybrid that is of use here. Raises SettingError for others."""
    from common.strategies.options import option

    wanted = True
    for text in options:
        name = text.partition("=")[0].strip()
        if name != "deduplicate":
            raise SettingError(f"--option names {name!r}, but watch has the option ['deduplicate']")
        wanted = option("hybrid", text)[1]
    return wanted
