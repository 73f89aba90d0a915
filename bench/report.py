"""What a benchmark hands back: numbers, goals, and how busy the machine was."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.yolo.offline import cores

OUT = Path(__file__).resolve().parent / "out"

console = Console(width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Goal:
    """One promise: ``value`` must stay below ``limit`` (or at it)."""

    name: str
    value: float
    limit: float
    unit: str

    @property
    def reached(self) -> bool:
        return self.value <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        said = "[green]reached" if self.reached else "[red]not reached"
        return self.name, f"<= {self.limit:g} {self.unit}", f"{self.value:.3g} {self.unit}", said


@dataclass
class Load:
    """How busy the machine was: run queue over one minute, and the busy share of all cores in between."""

    cores: int = field(default_factory=cores)
    before: float = field(default_factory=lambda: os.getloadavg()[0])
    after: float = 0.0
    busy: float = 0.0

    def line(self) -> str:
        return (
            f"load {self.before:.1f} before, {self.after:.1f} after; {self.cores} cores, {self.busy:.0%} busy "
            f"meanwhile; {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        )


@dataclass
class Report:
    """The result of one benchmark."""

    name: str
    quick: bool
    goals: list[Goal] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    seconds: float = 0.0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """The part of the run that the load figure is about."""
        import psutil

        psutil.cpu_percent()
        self.load = Load()
        began = time.monotonic()
        yield
        self.seconds = time.monotonic() - began
        self.load.after = os.getloadavg()[0]
        self.load.busy = psutil.cpu_percent() / 100

    def save(self) -> Path:
        """Write ``bench/out/NAME.json``."""
        OUT.mkdir(parents=True, exist_ok=True)
        path = OUT / f"{self.name}.json"
        goals = [{**asdict(g), "reached": g.reached} for g in self.goals]
        path.write_text(json.dumps({**asdict(self), "goals": goals}, indent=2) + "\n")
        return path

    def show(self, *tables: Table) -> None:
        """Print the tables and the load figure."""
        for table in tables:
            console.print(table)
        console.print(f"{self.name}{' (quick)' if self.quick else ''}: {self.load.line()}", highlight=False)
        console.print(f"numbers are in {self.save()}", highlight=False, style="dim")


def summary(reports: list[Report]) -> Table:
    """Every goal of every benchmark."""
    table = Table("benchmark", "goal", "wanted", "measured", "", title="goals")
    for report in reports:
        for goal in report.goals:
            table.add_row(report.name + (" (quick)" if report.quick else ""), *goal.row())
    return table


def tell(text: str) -> None:
    """Progress, dimmed."""
    console.print(f"[dim]{text}", highlight=False)
