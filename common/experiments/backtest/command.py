"""`hardfirst backtest`: parse, call, format."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.commands import INTERRUPTED
from common.completion import DEVICES, Names
from common.errors import SettingError

if TYPE_CHECKING:
    from common.experiments.backtest.task import Run, Source


@click.command()
@click.option(
    "--data", "sources", multiple=True, metavar="[NAME=]data.yaml", help="A labelled set; several are allowed."
)
@click.option(
    "--strategies",
    default="uniform,additive,screened=additive:deduplicate=true:guard=true,hybrid",
    show_default=True,
    help="Arms: [label=]NAME[:option=value...], separated by commas; uniform is always one.",
)
@click.option("--budgets", default="4,8,16,32,64", show_default=True, help="Rising numbers of labels.")
@click.option("--seeds", default=3, show_default=True, help="Units per data set.")
@click.option("--model", type=click.Path(path_type=Path), help="Weights every training starts from (.pt or .yaml).")
@click.option("--imgsz", default=640, show_default=True, help="Pixels of the long side.")
@click.option("--updates", default=240, show_default=True, help="Optimizer steps of every training.")
@click.option("--full-updates", type=int, help="Those of the training on everything; default --updates.")
@click.option("--batch", default=8, show_default=True, help="Images per step.")
@click.option("--freeze", default=0, show_default=True, help="So many first layers keep their weights.")
@click.option("--groups", multiple=True, metavar="[NAME=]groups.csv", help="CSV: image, group; splits never share one.")
@click.option("--resplit", is_flag=True, help="Draw the splits by the unit's seed; groups stay whole.")
@click.option("--aa", is_flag=True, help="Add uniform once more: its differences to uniform are noise.")
@click.option("--uniform-repeats", default=1, show_default=True, help="Draws of uniform that are averaged.")
@click.option("--views", default="", metavar="flip,half,heads", help="More looks of the detector when it scores.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, mps, 0.", shell_complete=Names(DEVICES))
@click.option("--jobs", default=1, show_default=True, help="Units played at the same time.")
@click.option("--threads", default=0, show_default=True, help="CPU threads of each; 0 = all cores / jobs.")
@click.option("--max-minutes", default=0.0, help="Stop after the round that passes this; run again to go on.")
@click.option("--report", "only_report", is_flag=True, help="Train nothing; make the report from what is there.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: what report.json holds.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of results.")
def backtest(out: Path, *, only_report: bool, as_json: bool, **given: Any) -> None:
    """Replay active learning on a labelled set: what would we have saved?

    Every round of a unit is on the disk when it ends: the same command goes on where it was stopped; new strategies,
    seeds, data sets and greater budgets may be added.

    Example: hardfirst backtest --data cards/data.yaml --strategies additive,hybrid --model yolo11n.pt --out runs/cards
    """
    from common.experiments.backtest.runs import require_folder
    from common.experiments.backtest.show import progress, show

    whole, stopped = True, False
    require_folder(out)
    out = Path(os.path.realpath(out))
    if not only_report:
        from common.experiments.backtest import runs

        run = _run(out, given)
        runs.check(run)
        try:
            with progress(quiet=as_json) as tell:
                whole = runs.play(run, tell)
        except KeyboardInterrupt:
            whole, stopped = False, True
    show(out, as_json=as_json)
    if not whole:
        click.echo("not everything is played: run the same command again to go on", err=True)
    if stopped:
        raise SystemExit(INTERRUPTED)


def _run(out: Path, given: dict[str, Any]) -> Run:
    from common.experiments.backtest.arms import parse
    from common.experiments.backtest.task import Recipe, Run
    from common.yolo import files

    model: Path | None = given["model"]
    if model is None or not model.is_file():
        raise SettingError(
            f"--model is {str(model or '')!r}, which is no file: give the weights to start from, such as yolo11n.pt"
        )
    minutes: float = given["max_minutes"]
    if not 0 <= minutes < math.inf:
        raise SettingError(f"--max-minutes is {minutes:g}: a number of 0 or more is allowed, 0 = no limit")
    views = tuple(part.strip() for part in given["views"].split(",") if part.strip())
    arms = parse(given["strategies"], aa=given["aa"], repeats=given["uniform_repeats"], views=views)
    recipe = Recipe(
        _numbers(given["budgets"]),
        str(model.resolve()),
        files.sha256(model),
        given["imgsz"],
        given["updates"],
        given["full_updates"] or given["updates"],
        given["batch"],
        given["freeze"],
        given["device"],
        given["resplit"],
        views,
    )
    sources = _sources(given["sources"], given["groups"])
    return Run(out, recipe, sources, arms, given["seeds"], given["jobs"], given["threads"], minutes)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise SettingError(f"--budgets is {text!r}: whole numbers separated by commas are wanted") from error


def _sources(paths: tuple[str, ...], groups: tuple[str, ...]) -> list[Source]:
    from common.experiments.backtest.task import Source

    if not paths:
        raise SettingError("--data is missing: give the path of a data.yaml")
    named = [_named(text) for text in paths]
    lists = dict(_named(text) for text in groups)
    if len(named) == 1 and len(lists) == 1:
        lists = {named[0][0]: next(iter(lists.values()))}
    unknown = sorted(set(lists) - {name for name, _ in named})
    if unknown:
        raise SettingError(
            f"--groups names {unknown[0]!r}, but the data sets are {[n for n, _ in named]}: NAME=groups.csv"
        )
    return [Source(name, path, lists.get(name, "")) for name, path in named]


def _named(text: str) -> tuple[str, str]:
    """(name, absolute path) of ``NAME=path``; without a name the folder's."""
    name, found, path = text.partition("=")
    where = Path(path if found else text).expanduser().resolve()
    return (name if found else where.parent.name), str(where)
