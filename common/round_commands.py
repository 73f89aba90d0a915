"""`hardfirst rounds`, `curve`, `rollback` ...: what people ask of a project's rounds. Parse, call, format."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from common.completion import Names, project_keys
from common.errors import RefusedError
from common.terminal import dump, note, progress, say, table

if TYPE_CHECKING:
    from common.loop.tools import Tools
    from common.store.projects import ProjectRow
    from common.terminal import Tell

LOOK_S = 1.0
"""Between two looks at a round that is waited for."""

as_json_option = click.option("--json", "as_json", is_flag=True, help="For scripts.")
project_option = click.option(
    *("--project", "key"),
    required=True,
    help="platform:id, such as label-studio:12 or cvat:4.",
    shell_complete=project_keys,
)


def _ask(key: str, call: Callable[[Tools, ProjectRow], Any]) -> Any:
    from common import config, logs
    from common.connection import project_tools

    with logs.bound(trace=logs.fresh()), project_tools(config.load(), key) as (tools, row):
        return call(tools, row)


def _answer(key: str, name: str) -> Any:
    from common.loop.asking import ANSWERS

    return _ask(key, ANSWERS[name])


@click.command()
@project_option
@as_json_option
def rounds(key: str, as_json: bool) -> None:
    """Every round: what it trained on, what it came to, the verdict and why.

    Example: hardfirst rounds --project label-studio:12
    """
    found = _answer(key, "rounds")
    if as_json:
        return dump(found)
    if not found["rounds"]:
        return say(f"no round yet; `hardfirst status --project {key}` says what it waits for")
    heads = ("round", "state", "verdict", "labels", "validation images", "mAP50", "mAP50-95", "seconds", "reason")
    names = ("number", "state", "verdict", "labels", "images", "map50", "map5095")
    rows = [
        [*(r[n] for n in names), f"{r['seconds']:.0f}", ("serves; " if r["serves"] else "") + r["reason"]]
        for r in found["rounds"]
    ]
    return table(heads, rows)


@click.command()
@project_option
@as_json_option
def curve(key: str, as_json: bool) -> None:
    """The learning curve: what each round's model comes to on the same images, per class, and whether to go on.

    Example: hardfirst curve --project label-studio:12
    """
    found = _answer(key, "curve")
    if as_json:
        return dump(found)
    points = found["points"]
    if points:
        heads = ("round", "labels", "mAP50", "90 %", "mAP50-95", "90 %", "gain per 100", "images", "note")
        table(heads, [_point(p) for p in points], f"measured on {found['images']} images of round {found['round']}")
        _classes([p for p in points if p["current"]])
    if found["note"]:
        say(found["note"])
    advice = found["advice"]
    return say(f"advice: {advice['action']}: {advice['reason']}", style="bold")


def _point(p: dict[str, Any]) -> list[Any]:
    note = [p["verdict"], "serves" if p["serves"] else "", "" if p["current"] else f"measured on round {p['measured']}"]
    return [
        *(p["trained"], p["labels"], p["map50"], f"{p['map50_low']:.3f} to {p['map50_high']:.3f}"),
        *(p["map5095"], f"{p['map5095_low']:.3f} to {p['map5095_high']:.3f}"),
        *("" if p["gain"] is None else f"{p['gain']:+.4f}", p["images"], ", ".join(n for n in note if n)),
    ]


def _classes(points: list[dict[str, Any]]) -> None:
    """AP50 of each class, a column per round."""
    names = list(dict.fromkeys(name for p in points for name, c in p["classes"].items() if "ap50" in c))
    if names:
        rows = [[name, *(p["classes"].get(name, {}).get("ap50") for p in points)] for name in names]
        table(["AP50 of class", *(f"round {p['trained']}" for p in points)], rows)


@click.command()
@project_option
@click.option("--now", is_flag=True, help="What it does anyway.")
@click.option("--wait", is_flag=True, help="Until the round has ended; code 1 when it failed or was cancelled.")
@as_json_option
def train(key: str, now: bool, wait: bool, as_json: bool) -> None:  # noqa: ARG001
    """Start a round now, whatever the number of new labels.

    Example: hardfirst train --project label-studio:12 --wait
    """
    from common.loop.asking import ask_training

    if not wait:
        found = _ask(key, ask_training)
        return dump(found) if as_json else say(f"asked; `hardfirst status --project {key}` shows the progress")
    with progress("epochs", quiet=as_json) as tell:
        found = _ask(key, lambda tools, row: _wait(tools, row, tell))
    if found["state"] != "done":
        raise RefusedError(f"round {found['number']} of {key} {found['state']}: {found['reason']}")
    return dump({"project": key, **found}) if as_json else say(f"round {found['number']} is done: {found['reason']}")


def _wait(tools: Tools, row: ProjectRow, tell: Tell) -> dict[str, Any]:
    """Ask for a round, and follow it to its end; the answer is its entry of the history."""
    from common.loop.asking import ask_training
    from common.loop.history import training_history

    before = tools.store.rounds.newest(row.key)
    number = before.number if before else 0
    ask_training(tools, row)
    note(f"asked, Ctrl-C ends only the waiting; `hardfirst status --project {row.key}` says what it waits for")
    while True:
        newest = tools.store.rounds.newest(row.key)
        if newest is not None and newest.number > number:
            if newest.state != "running":
                return next(r for r in training_history(tools, row) if r["number"] == newest.number)
            tell(int(newest.progress.get("epoch", 0)), int(newest.progress.get("epochs", 0)))
        elif (now := tools.store.projects.get(row.key)) is None or now.training_asked is None:
            raise RefusedError(f"the wish for a round of {row.key} was taken back")
        time.sleep(LOOK_S)


@click.command()
@project_option
@as_json_option
def cancel(key: str, as_json: bool) -> None:
    """End the running round; the next one waits for new labels, or for `train`.

    Example: hardfirst cancel --project label-studio:12
    """
    from common.loop import asking

    found = _ask(key, asking.cancel)
    return dump(found) if as_json else say(f"round {found['round']} is cancelled; the model that served serves on")


@click.command()
@project_option
@click.option("--to", help="Version of a former queue; default the newest of the model that served before.")
@as_json_option
def rollback(key: str, to: str | None, as_json: bool) -> None:
    """Go back to a former model: its weights, its predictions and its order; labels stay as they are.

    Asked twice it goes back twice; --to names any queue that is kept, newer ones too.

    Example: hardfirst rollback --project label-studio:12 --to hardfirst@1.2-0a1b2c3d
    """
    from common.loop.way_back import ask_way_back

    found = _ask(key, lambda tools, row: ask_way_back(tools, row, to))
    if as_json:
        return dump(found)
    return say(
        f"asked: from {found['from'] or 'no queue'} to {found['to']}; `hardfirst status --project {key}` tells when"
    )


@click.command()
@project_option
@click.option("--round", "number", type=int, required=True, help="Number of the round whose model is to serve.")
@as_json_option
def promote(key: str, number: int, as_json: bool) -> None:
    """Make the model of a round the champion, whatever its verdict was; it makes a new order.

    Example: hardfirst promote --project label-studio:12 --round 3
    """
    from common.loop.way_back import ask_promotion

    found = _ask(key, lambda tools, row: ask_promotion(tools, row, number))
    if as_json:
        return dump(found)
    return say(f"asked: the model of round {number} is to serve; `hardfirst status --project {key}` tells when")


@click.command()
@project_option
@click.option("--round", "number", type=int, help="As this round saw it; default as one would now.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder, or that of an earlier one.")
@click.option("--links", is_flag=True, help="Link the images instead of copying them.")
@as_json_option
def export(key: str, number: int | None, out: Path, links: bool, as_json: bool) -> None:
    """Write the labelled images as a YOLO data set: `yolo train data=DIR/data.yaml` reads it.

    Example: hardfirst export --project label-studio:12 --out cells
    """
    from common import config
    from common.export import export_project

    with progress("images", quiet=as_json) as tell:
        found = export_project(config.load(), key, out, number, links=links, tell=tell)
    if as_json:
        return dump(found)
    counts = f"{found['train']} images to train on, {found['val']} to measure on, {found['boxes']} boxes"
    say(f"{counts}: {Path(found['folder']) / 'data.yaml'}")
    for what, why in (("held", "look-alikes of those are left out"), ("missing", "labelled images cannot be read")):
        if found[what]:
            say(f"{found[what]} {why}", style="yellow")
    for report in found["reports"]:
        say(report, style="yellow")
    return None


@click.command()
@project_option
@click.option(
    "--state",
    default="open",
    help="open, dismissed or gone.",
    show_default=True,
    shell_complete=Names(["open", "dismissed", "gone"]),
)
@click.option("--dismiss", "finding", type=int, help="This one is fine: not listed again while the label stays.")
@as_json_option
def review(key: str, state: str, finding: int | None, as_json: bool) -> None:
    """Labels worth a second look, the most doubtful first; nothing is ever changed.

    Example: hardfirst review --project label-studio:12 --dismiss 7
    """
    from common.loop import asking

    if finding is not None:
        done = _ask(key, lambda tools, row: asking.dismiss_finding(tools, row, finding))
        return dump(done) if as_json else say(f"dismissed {finding}")
    found = _ask(key, lambda tools, row: asking.review(tools, row, state))
    if as_json:
        return dump(found)
    if not found["review"]:
        return say("nothing to look at")
    names = ("id", "sample", "kind", "weight", "round", "reason", "link")
    return table(names, [[f[n] for n in names] for f in found["review"]])


@click.command()
@project_option
@as_json_option
def kpi(key: str, as_json: bool) -> None:
    """Figures of the project: waiting, seconds per image with and without boxes, labels saved ...

    Example: hardfirst kpi --project label-studio:12
    """
    found = _answer(key, "kpi")
    if as_json:
        return dump(found)
    for name, value in found.items():
        if isinstance(value, dict):
            say(name.replace("_", " "), style="bold")
            for line in _lines(value):
                say(f"  {line}")
        else:
            say(f"{name.replace('_', ' ')}: {value}")
    return None


def _lines(found: dict[str, Any]) -> list[str]:
    """'name: value', a figure inside a figure on the same line; 'name_s' is in seconds and says so."""
    return [
        f"{name.removesuffix('_s').replace('_', ' ')}: {_told(value)}{' s' if _seconds(name, value) else ''}"
        for name, value in found.items()
    ]


def _seconds(name: str, value: Any) -> bool:
    return name.endswith("_s") and isinstance(value, int | float)


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(_lines(value)) or "none"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "none" if value is None else str(value)


ROUNDS = (rounds, curve, train, cancel, rollback, promote, export, review, kpi)
"""The commands of this file."""
