"""What a run is asked for: settings that decide the figures, and what one child is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.errors import SettingError, UnknownNameError
from common.experiments.backtest.arms import Arm
from common.experiments.backtest.data import DataSet, load, require_apart, resplit
from common.experiments.backtest.replay import check_budgets
from common.ports import VIEWS
from common.yolo import files

SETTINGS = "settings.json"
UNITS, CACHE, WORK = "units", "cache", "work"
TASK, FULL, FAILURE, LOG = "task.json", "full.json", "failure.json", "log.txt"


@dataclass(frozen=True)
class Recipe:
    """Settings that decide the figures; a folder of results has one of each, but for the device.

    Attributes:
        budgets: Rising numbers of labels; the first is the initial set.
        model: Absolute path of the checkpoint.
        model_sha256: Of its content.
        imgsz: Pixels of the long side.
        updates: Optimizer steps of every training.
        full_updates: Of the training on the whole pool.
        batch: Images per step.
        freeze: So many first layers keep their weights.
        device: As given: 'auto', 'cpu', '0'; may be another one when a run goes on.
        resplit: Splits are drawn by the unit's seed.
        views: More looks of the detector when it scores, out of ``common.ports.VIEWS``.
    """

    budgets: tuple[int, ...]
    model: str
    model_sha256: str
    imgsz: int
    updates: int
    full_updates: int
    batch: int = 8
    freeze: int = 0
    device: str = "auto"
    resplit: bool = False
    views: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("updates", 1), ("full_updates", 1), ("batch", 1), ("freeze", 0), ("imgsz", 32)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise SettingError(f"--{option} is {getattr(self, name)}: {least} or more is allowed")
        wrong = [view for view in self.views if view not in VIEWS]
        if wrong:
            raise UnknownNameError(f"--views: no view {wrong[0]!r}; there are {list(VIEWS)}")
        if self.imgsz % 32:
            raise SettingError(f"--imgsz is {self.imgsz}: a multiple of 32 is allowed")

    @classmethod
    def of(cls, data: dict[str, Any]) -> Recipe:
        """From JSON, which knows no tuples."""
        return cls(**data | {name: tuple(data.get(name, ())) for name in ("budgets", "views")})


@dataclass(frozen=True)
class Source:
    """Where a data set is."""

    name: str
    path: str
    groups: str = ""

    def load(self) -> DataSet:
        """Read it."""
        return load(Path(self.path), self.name, Path(self.groups) if self.groups else None)


@dataclass(frozen=True)
class Task:
    """What one child does: one unit.

    Attributes:
        out: The run's folder, absolute.
        recipe: See ``Recipe``.
        source: The data set.
        seed: The unit's.
        arms: To replay, in order.
        threads: CPU threads.
        until: Time (``time.time``) after which no further round begins; 0 = never.
    """

    out: str
    recipe: Recipe
    source: Source
    seed: int
    arms: tuple[Arm, ...]
    threads: int = 1
    until: float = 0.0

    @property
    def name(self) -> str:
        """The unit's name."""
        return f"{self.source.name}-{self.seed}"

    @property
    def folder(self) -> Path:
        """Where its results are: nothing else, so that they may be kept and published."""
        return Path(self.out) / UNITS / self.name

    @property
    def desk(self) -> Path:
        """Where the child works: task, log, data set, weights."""
        return Path(self.out) / WORK / self.name

    def save(self) -> Path:
        """Write it where the child reads it, and return that folder."""
        files.write_json(self.desk / TASK, asdict(self))
        return self.desk

    @classmethod
    def read(cls, folder: Path) -> Task:
        """The inverse of ``save``."""
        data: dict[str, Any] = files.read_json(folder / TASK) or {}
        arms = tuple(Arm(**arm) for arm in data["arms"])
        return cls(**data | {"recipe": Recipe.of(data["recipe"]), "source": Source(**data["source"]), "arms": arms})

    def trainings(self) -> int:
        """Rounds of all arms, the first one of all counted once, and the reference."""
        return 2 + len(self.arms) * (len(self.recipe.budgets) - 1)

    def done(self) -> int:
        """How many of them have ended."""
        found = [len(read_rounds(self.arm_file(arm))) for arm in self.arms]
        return (self.folder / FULL).is_file() + any(found) + sum(max(0, n - 1) for n in found)

    def arm_file(self, arm: Arm) -> Path:
        """Results of one arm."""
        return self.folder / arm_name(arm.label)


def arm_name(label: str) -> str:
    """A file name for an arm."""
    from common.yolo.dataset import safe_name

    return f"{safe_name(label)}.json"


def read_rounds(path: Path) -> list[dict[str, Any]]:
    """Rounds that are in an arm's file."""
    return list((files.read_json(path) or {}).get("rounds", []))


def unit_data(data: DataSet, recipe: Recipe, seed: int) -> DataSet:
    """The data set with the splits of this unit, checked. Raises SettingError."""
    mine = resplit(data, seed) if recipe.resplit else data
    require_apart(mine)
    check_budgets(recipe.budgets, len(mine.train), mine.name)
    if not any(s.label.boxes for s in mine.val):
        raise SettingError(f"{mine.name}: no image of the validation split has a box, so nothing can be measured")
    return mine


def arm_dict(arm: Arm) -> dict[str, Any]:
    """What identifies an arm in its file."""
    return {"arm": arm.label, "strategy": arm.strategy, "options": dict(arm.options)}


@dataclass
class Run:
    """A whole run: the units, in the order they are played."""

    out: Path
    recipe: Recipe
    sources: list[Source]
    arms: list[Arm]
    seeds: int
    jobs: int = 1
    threads: int = 0
    max_minutes: float = 0.0
    digests: dict[str, str] = field(default_factory=dict)
