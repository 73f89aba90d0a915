"""Label efficiency: `python -m bench.efficiency TABLE`: replays on the pools of `bench.pools`, results in docs.

Goes on where it was stopped; `--minutes` keeps one call short. Without TABLE it lists what there is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from bench import inputs, pools
from bench.report import OUT, console

DOCS = inputs.ROOT / "docs" / "label-efficiency"

FOUR = ("uniform", "additive", "screened=additive:deduplicate=true:guard=true", "hybrid")
"""The arms of the first comparison on every pool."""

OTHERS = (
    "core_set",
    "entropy=top_utility",
    "deduplicated=uniform:deduplicate=true",
    "screened entropy=top_utility:deduplicate=true:guard=true",
    "hybrid without typicality=hybrid:typicality=false",
    "hybrid without utility=hybrid:uncertainty=false",
    "hybrid without deficit=hybrid:deficit=false",
    "hybrid without near-duplicates=hybrid:deduplicate=false",
    "hybrid without distance=hybrid:diversity=false",
    "hybrid without class weights=hybrid:class_weights=false",
    "hybrid without outlier guard=hybrid:guard=false",
)
"""What else could be behind a gain: single steps, and hybrid without each."""


@dataclass(frozen=True)
class Experiment:
    """One table of the document.

    Attributes:
        pools: Names out of ``pools.POOLS``.
        arms: As ``hardfirst backtest --strategies`` takes them; uniform is always one.
        budgets: Rising numbers of labels.
        imgsz: Pixels of the long side.
        updates: Optimizer steps of every training, the reference included.
        freeze: So many first layers keep their weights: less to compute on a CPU.
    """

    pools: tuple[str, ...]
    arms: tuple[str, ...]
    budgets: tuple[int, ...] = (8, 16, 32, 64, 96, 144)
    imgsz: int = 160
    updates: int = 360
    freeze: int = 10

    def arguments(self, out: Path, data: Sequence[tuple[str, Path]]) -> list[str]:
        """The command line of ``hardfirst backtest``."""
        sets = [part for name, path in data for part in ("--data", f"{name}={path}")]
        numbers = {
            "--strategies": ",".join(self.arms),
            "--budgets": ",".join(map(str, self.budgets)),
            "--imgsz": self.imgsz,
            "--updates": self.updates,
            "--freeze": self.freeze,
            "--model": inputs.weights(),
            "--out": out,
        }
        return [*sets, "--aa", *(str(part) for pair in numbers.items() for part in pair)]


EXPERIMENTS = {
    "first": Experiment(("cards-redundant", "cards-rare", "bccd-redundant", "cards"), (*FOUR, *OTHERS)),
    "plates": Experiment(("plates",), FOUR, budgets=(8, 16, 32, 64), imgsz=256),
}
"""Name of a folder in docs/label-efficiency -> what is replayed there."""


@click.command()
@click.argument("name", metavar="TABLE", required=False, type=click.Choice(sorted(EXPERIMENTS)))
@click.option("--arms", default=0, help="Only so many of the table's arms; 0 = all.")
@click.option("--seeds", default=3, show_default=True, help="Units per pool.")
@click.option("--minutes", default=55.0, show_default=True, help="Stop after the round that passes this.")
@click.option("--jobs", default=2, show_default=True, help="Units at the same time, one CPU thread each.")
@click.option("--device", default="auto", show_default=True)
def main(name: str | None, *, arms: int, seeds: int, minutes: float, jobs: int, device: str) -> None:
    """Replay one TABLE; run it again to go on."""
    from common.experiments.backtest.command import backtest

    if name is None:
        for key, experiment in EXPERIMENTS.items():
            console.print(f"{key}: {', '.join(experiment.arms)} on {', '.join(experiment.pools)}", highlight=False)
        return
    wanted = replace(EXPERIMENTS[name], arms=EXPERIMENTS[name].arms[: arms or None])
    data = [(pool, pools.make(pool, OUT / "pools")) for pool in wanted.pools]
    rest = ["--seeds", seeds, "--jobs", jobs, "--threads", 1, "--max-minutes", minutes, "--device", device]
    backtest.main([*wanted.arguments(DOCS / name, data), *map(str, rest)], standalone_mode=False)


if __name__ == "__main__":
    sys.exit(main())
