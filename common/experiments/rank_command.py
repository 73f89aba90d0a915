"""`hardfirst rank`: parse, call, format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.commands import INTERRUPTED
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
    strategy_names,
)
from common.terminal import dump, progress
from common.terminal import note as tell_person

if TYPE_CHECKING:
    from common.experiments.rank import Report

TOP = 5
"""Images named on the terminal."""


@click.command()
@click.argument("source", metavar="FOLDER", type=click.Path(path_type=Path))
@model_option
@click.option("--labelled", type=click.Path(path_type=Path), help="List of images that have a label: paths or names.")
@click.option("--budget", type=int, help="Places wanted; default all.")
@click.option("--strategy", help="Query strategy.  [HARDFIRST_STRATEGY]", shell_complete=strategy_names)
@click.option(
    "--option", "strategy_options", multiple=True, metavar="NAME=VALUE", help="Of the strategy; may be repeated."
)
@acquisition_option
@committee_option
@click.option("--classes", help="Only these classes of the model count: a,b.")
@click.option("--data", type=click.Path(path_type=Path), help="data.yaml whose names are the classes.")
@click.option("--random-slice", type=float, default=0.0, help="Share of images served by chance, such as .1.")
@imgsz_option
@device_option
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
    from common.config import variable
    from common.experiments.rank import Request, run
    from common.experiments.ranking import Wish
    from common.opening import opened
    from common.strategies import REGISTRY

    only, settings = classes_of(given["classes"]), settings_of(given)
    if given["acquisition"] and "acquisition" not in REGISTRY[settings.strategy].options.__dataclass_fields__:
        raise SettingError(f"--acquisition is given, but strategy {settings.strategy!r} uses none: leave it out")
    sheet = None if given["sheet"] is None else Path(given["sheet"] or out.with_suffix(".png"))
    wish = Wish(given["budget"], given["random_slice"])
    request = Request(source, out, wish, given["labelled"], only, given["data"], sheet)
    request.require_places(settings)
    models, model = command_line.open_model(settings)
    if given["model"]:
        model = replace(model, reason=model.reason.replace(variable("model"), "--model"))
    try:
        with opened(settings) as store, progress("scoring", quiet=as_json) as tell:
            report = run(request, settings, store, models, model, tell)
    except KeyboardInterrupt:
        tell_person("stopped; what was scored is kept, the same command goes on from there")
        raise SystemExit(INTERRUPTED) from None
    _tell(report, as_json=as_json)


def _tell(report: Report, *, as_json: bool) -> None:
    s = report.summary
    if as_json:
        dump({**s, "top": report.rows[:TOP], "notes": report.notes})
        return
    for sentence in report.notes:
        note(sentence)
    counts = f"{s['scored']} scored now, {s['cached']} known before, {len(s['unreadable'])} unreadable"
    say(f"{s['images']} images: {counts}, {s['labelled']} labelled")
    if s["duplicates"]:
        say(f"{s['duplicates']} of them are near-duplicates of each other, groups: {s['duplicate_groups']}")
    say(f"order of {s['ranked']} images: {s['order']}")
    if s["sheet"]:
        say(f"contact sheet: {s['sheet']}")
    for row in report.rows[:TOP]:
        say(f"{row['rank']:>3}  {row['utility']:.2f}  {row['path']}  {row['reason']}")
