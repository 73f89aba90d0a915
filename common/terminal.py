"""What commands say: lines, notes, JSON, progress. Nothing moves and nothing is coloured where nobody looks."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 240
"""Columns of a table where nobody looks: what is piped is not folded."""
LINE_S = 60.0
"""Where no bar can be drawn, a line says how far it is about so often."""

Tell = Callable[[int, int], None]
"""(done, of how many)."""


def console(*, errors: bool = False) -> Console:
    """Of rich, on standard output or the error stream; plain with NO_COLOR, where rich would still print bold."""
    from rich.console import Console

    plain = True if not os.environ.get("NO_COLOR") else None
    return Console(stderr=errors, force_terminal=None if plain else False, markup=False, highlight=False)


def say(text: str, style: str | None = None) -> None:
    """One line, as long as it is: what people and grep read."""
    console().print(text, style=style, soft_wrap=True)


def note(text: str, style: str | None = None) -> None:
    """The same on the error stream: standard output is for the answer."""
    console(errors=True).print(text, style=style, soft_wrap=True)


def dump(found: Any) -> None:
    """The answer for scripts."""
    click.echo(json.dumps(found, indent=2))


@contextmanager
def progress(what: str, *, quiet: bool = False, pace_s: float = 30, at_once: bool = False) -> Iterator[Tell]:
    """A bar on the error stream with the time that is left; where nobody looks, a line a minute.

    Args:
        what: What is counted: 'scoring'.
        quiet: Say nothing at all.
        pace_s: Seconds of the past that the time left is judged by.
        at_once: See ``lines``.
    """
    from common.logs import is_quiet

    if quiet:
        yield lambda _done, _total: None
    elif is_quiet():
        yield lines(what, console(errors=True), at_once=at_once)
    else:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        shown = (
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
            *(TextColumn("left"), TimeRemainingColumn()),
        )
        with Progress(*shown, console=console(errors=True), transient=True, speed_estimate_period=pace_s) as bar:
            task = bar.add_task(what, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def lines(what: str, out: Console, *, at_once: bool = False) -> Tell:
    """Tell in lines: how many, and how long the rest will take at the pace so far.

    Args:
        what: See ``progress``.
        out: Where to.
        at_once: The first and the last are told too; else what takes less than a minute says nothing.
    """
    began, first = time.monotonic(), -1
    told = float("-inf") if at_once else began

    def tell(done: int, total: int) -> None:
        nonlocal first, told
        first, now = done if first < 0 else first, time.monotonic()
        if now - told < LINE_S and not (at_once and done >= total):
            return
        told = now
        left = f", about {(now - began) / (done - first) * (total - done) / 60:.0f} min left" if done > first else ""
        out.print(f"{done} of {total} {what}{left}", soft_wrap=True)

    return tell


@contextmanager
def busy(what: str) -> Iterator[Callable[[str], None]]:
    """A sign of life on the error stream while something takes its time, nothing where nobody looks.

    Yields what changes its text.
    """
    from common.logs import is_quiet

    if is_quiet():
        yield lambda _text: None
    else:
        with console(errors=True).status(what) as shown:
            yield shown.update


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Print a table: numbers to the right; the last column takes what width is left."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False, show_edge=False)
    for number, head in enumerate(heads):
        last = number == len(heads) - 1
        plain = any(isinstance(row[number], str) and not _is_figure(row[number]) for row in rows)
        table.add_column(head, justify="left" if plain else "right", no_wrap=not last, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out = console()
    if not sys.stdout.isatty():
        out.width = WIDE
    out.print(table)


def _is_figure(text: str) -> bool:
    return not text or text[0] in "+-.0123456789"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
