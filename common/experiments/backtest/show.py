"""What a person sees: a progress bar while it runs; at its end tables, and the files of the report."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from common import terminal
from common.experiments.backtest.tables import Table
from common.experiments.backtest.verdict import Answer, answer
from common.yolo import files

_WIDE = 170
"""Columns of the tables where there is no terminal."""


def progress(*, quiet: bool = False) -> AbstractContextManager[terminal.Tell]:
    """A bar over all trainings, or a line a minute; what it yields is told how many have ended, of how many."""
    return terminal.progress("trainings", quiet=quiet, pace_s=3600, at_once=True)


def show(out: Path, *, as_json: bool = False) -> None:
    """Make the report of a folder of results; print its tables and say where its files are, or print it as JSON."""
    from common.experiments.backtest import provenance, runs
    from common.experiments.backtest.report import gather, long_rows, summarise
    from common.experiments.backtest.tables import noise_sentence, sentences, tables

    records, references = runs.results(out)
    units, missing = gather(records, references)
    summary = summarise(units)
    said = [noise_sentence(summary)] if units else ["No unit is played to its end yet."]
    said += sentences(summary, missing) + provenance.told(records, references)
    made = tables(summary) if units else []
    found = answer(summary)
    whole = summary | {"answer": found.sentences, "said": said}
    files.write_json(out / "report.json", whole)
    _write_csv(out / "report.csv", list(long_rows(records, references)))
    _write_markdown(out, made, said, found)
    if units:
        from common.experiments.backtest.plot import draw

        draw(units, out / "curves.png")
    if as_json:
        terminal.dump(whole | {"folder": str(out)})
        return
    _print(made, said, found, f"{out}: report.md, report.json, report.csv{', curves.png' if units else ''}")


def _write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with files.replacing(path) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["data"])
        writer.writeheader()
        writer.writerows(rows)


def _write_markdown(out: Path, made: list[Table], said: list[str], found: Answer) -> None:
    """The answer comes first."""
    first, rest = said[:1], said[1:]
    parts = [*_blocks(found), *first, *(table.markdown() for table in made), _listed(rest)]
    files.write_text(out / "report.md", "\n\n".join(part for part in parts if part) + "\n")


def _blocks(found: Answer) -> list[str]:
    return [*(table.markdown() for table in found.tables), _listed(found.sentences)]


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _print(made: list[Table], said: list[str], found: Answer, where: str) -> None:
    """The answer comes last, where a terminal stands still."""
    console = terminal.console()
    if not sys.stdout.isatty():
        console.width = _WIDE
    console.print(said[0], markup=False, highlight=False)
    for table in made:
        _print_table(console, table)
    for line in said[1:]:
        console.print(line, markup=False, highlight=False)
    for table in found.tables:
        console.print()
        _print_table(console, table)
    for line in found.sentences:
        console.print(line, markup=False, highlight=False)
    console.print(where, markup=False, highlight=False, soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    shown = RichTable(title=table.title, box=box.SIMPLE, title_justify="left", title_style="bold")
    for i, head in enumerate(table.heads):
        shown.add_column(head, justify="left" if i == 0 else "right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown, markup=False)
