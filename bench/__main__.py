"""`python -m bench [NAME ...] [--quick]`: measure, print tables, say which goals are reached."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from bench import committee, connect, cvat, detector, duplicates, mapping, pages, publish, selection, training, webhooks
from bench.report import Report, console, summary

BENCHMARKS: dict[str, Callable[..., Report]] = {
    "webhooks": webhooks.run,
    "publish": publish.run,
    "connect": connect.run,
    "cvat": cvat.run,
    "detector": detector.run,
    "duplicates": duplicates.run,
    "selection": selection.run,
    "committee": committee.run,
    "training": training.run,
    "pages": pages.run,
    "map": mapping.run,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="Smaller and shorter: shows that it works; its figures are not the goals'.")
def main(names: tuple[str, ...], *, quick: bool) -> None:
    """Measure NAMES (default: all)."""
    reports = []
    for name in names or BENCHMARKS:
        console.rule(name)
        reports.append(BENCHMARKS[name](quick=quick))
    console.print(summary(reports))


if __name__ == "__main__":
    sys.exit(main())
