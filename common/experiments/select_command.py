"""`hardfirst select`: parse, call, format."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from common.completion import DEVICES, STRATEGIES, Names

_file = click.Path(path_type=Path)


@click.command()
@click.option("--embeddings", required=True, type=_file, help=".npy, (n, D), float16, float32 or float64.")
@click.option("--utility", type=_file, help=".npy, (n,): higher = more informative.")
@click.option("--labelled", type=_file, help=".npy: row numbers that have a label, or a mask.")
@click.option("--budget", required=True, type=int, help="Rows wanted.")
@click.option(
    "--strategy", required=True, help="Query strategy: core_set, hybrid, ...", shell_complete=Names(STRATEGIES)
)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the strategy; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Of everything random.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, mps, 0.", shell_complete=Names(DEVICES))
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.option("--out", required=True, type=_file, help=".npy: row numbers, int64, best first.")
def select(*, as_json: bool, **given: Any) -> None:
    """Order the rows of your own feature array: which to label first. No images, no model, no platform.

    Rows are brought to length 1, for core_set nothing else is done to them. Without --labelled the first row of
    core_set is drawn by --seed. Labelled rows are never returned; ties go to the lowest row.

    Example: hardfirst select --embeddings X.npy --budget 1000 --strategy core_set --out order.npy
    """
    from common.experiments.select import Request, run

    request = Request(**given)
    began = time.monotonic()
    order, open_rows = run(request)
    took = time.monotonic() - began
    if as_json:
        said = {"rows": len(order), "of": open_rows, "strategy": request.strategy, "seconds": round(took, 2)}
        click.echo(json.dumps({**said, "out": str(request.out)}))
        return
    click.echo(f"{len(order)} of {open_rows} rows ordered by {request.strategy} in {took:.1f} s: {request.out}")
