"""`hardfirst watch`: parse, call, format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from common.errors import SettingError
from common.experiments import command_line
from common.experiments.command_line import (
    committee_option,
    device_option,
    imgsz_option,
    model_option,
    names_of,
    note,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from common.config import Settings
    from common.experiments.journal import Journal
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
@click.option("--acquisition", help="Acquisition function of one instance.  [HARDFIRST_ACQUISITION]")
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
def watch(folder: Path, out: Path, requeue: tuple[str, ...], unqueue: tuple[str, ...], **given: Any) -> None:
    """Score images as they arrive in a folder; queue the share of them that teaches the model most.

    --out is a CSV that only grows: a line per decision, `queued` yes or no, the last line of an image (by its content,
    column sha256) counts. The same command goes on from it; the same content is never decided twice, and what looks
    like an image that came before is kept, not queued.

    Example: hardfirst watch incoming --model yolo11n.pt --rate .1 --out queue.csv
    """
    from common.experiments.journal import Journal
    from common.experiments.watch import require, reverse

    journal = Journal(out)
    if given["restart"] and (requeue or unqueue):
        raise SettingError("--restart begins anew, --requeue and --unqueue change what is there: give one of them")
    for names, queued in ((requeue, True), (unqueue, False)):
        for name in names:
            image = Path(name) if Path(name).is_file() else folder / name
            line = reverse(journal, image, queued=queued)
            say(f"{line.path}: {line.reason}")
    if not (requeue or unqueue):
        require(folder, given["rate"], given["interval"])
        deduplicate, settings = _deduplicate(given["options"]), settings_of(given)
        with journal.alone():
            _watch(folder, journal, settings, given, deduplicate=deduplicate)


def _watch(folder: Path, journal: Journal, settings: Settings, given: dict[str, Any], *, deduplicate: bool) -> None:
    from common.experiments.journal import queue
    from common.experiments.judge import Judge
    from common.experiments.ranking import project_classes
    from common.experiments.scoring import Scorer
    from common.experiments.watch import Watcher
    from common.store import open_store

    models, model = command_line.open_model(settings)
    classes = project_classes(model, names_of(given["classes"]))
    if not classes.columns:
        raise SettingError(f"--model is {settings.model!r}, which knows no class: watch needs trained weights (.pt)")
    store = open_store(settings.database, settings.folder)
    try:
        scorer = Scorer(store, models, model, settings)
        _begin(journal, scorer, settings, classes, restart=given["restart"])
        watcher = Watcher(
            folder,
            journal,
            scorer,
            Judge(classes, settings.acquisition),
            rate=given["rate"],
            deduplicate=deduplicate,
            max_bytes=int(settings.max_image_mb * 2**20),
            hear=lambda line: say(f"{'queued' if line.queued == 'yes' else 'kept':<6}  {line.path}  {line.reason}"),
            complain=note,
        )
        watcher.run(given["interval"], once=given["once"])
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here")
    else:
        for path in watcher.unfinished:
            note(f"{path}: left alone, it is still being written")
    finally:
        store.close()
    lines = journal.lines()
    say(f"{len({line.sha256 for line in lines})} images decided, {len(queue(lines))} in the queue: {journal.path}")


def _begin(journal: Journal, scorer: Scorer, settings: Settings, classes: Classes, *, restart: bool) -> None:
    from common.experiments import made_with
    from common.experiments.watch import now

    old = journal.set_aside() if restart else None
    if old is not None:
        say(f"{journal.path} begins anew; what was in it is {old}")
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
