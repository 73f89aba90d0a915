"""`hardfirst watch`: images that arrive in a folder are scored, and queued or kept aside, one after the other.

An image's value is hybrid's (the doubt of its boxes); its utility is the share of the last ``WINDOW`` images with a
lower value; it is queued when that is at or above a running quantile that keeps a rate (``strategies.stream``).
Plain polling: network folders tell nobody when a file comes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from common.domain import Prediction
from common.errors import MediaError, SettingError
from common.experiments.files import ImageFile, Stamp, find_images, read_image, stamp
from common.experiments.journal import PERSON, WATCH, Journal, Line
from common.experiments.ranking import Classes
from common.experiments.scoring import Scorer
from common.strategies.image_value import Terms, image_value
from common.strategies.pool import Pool, Values
from common.strategies.reasons import Chosen, parts
from common.strategies.screening import screen
from common.strategies.stream import Threshold, decide

WINDOW = 2000
"""Images a new one is compared with."""
BATCH = 256
"""Images scored before they are decided, at most: those of one batch are compared with each other too."""
SETTLE_S = 1.0
"""A file whose size and time of change stand still for this long is taken to be complete."""


@dataclass(frozen=True)
class Judge:
    """What an image is worth to a model.

    Attributes:
        classes: See ``project_classes``; the model must know one of them.
        acquisition: A name of ``ACQUISITIONS``.
    """

    classes: Classes
    acquisition: str = "entropy"

    def values(self, predictions: Sequence[Prediction]) -> list[tuple[float, str]]:
        """(value, 0 or more; what speaks for the image in words) of each image.

        Raises:
            UnknownNameError: No such acquisition function.
            SettingError: One that needs what these predictions do not carry.
        """
        terms = Terms(self.acquisition)
        out = []
        for prediction in predictions:
            pool = Pool.from_predictions(
                [prediction], self.classes.columns, len(self.classes.names), class_names=self.classes.names
            )
            value = image_value(pool, terms)
            out.append((float(value[0]), _words(pool, terms)))
        return out


def _words(pool: Pool, terms: Terms) -> str:
    """What the boxes waver between; '' when nothing is to be said."""
    value, row = np.zeros(1), np.zeros(1, np.int64)
    screened = screen(pool, value, np.random.default_rng(0), deduplicate=False, guard=False)
    chosen = Chosen(pool, screened, value, value, np.full(1, np.nan, np.float32), "mid", 0, terms)
    reason = str(parts(chosen, row)[0]["reason"])
    return "" if reason.startswith("more informative than") else reason


class Watcher:
    """Decides what arrives; all that must survive is in the journal.

    Args:
        folder: Where images arrive, in folders below it too.
        journal: Of earlier decisions and new ones.
        scorer: Scores images, each content once.
        judge: Values them.
        rate: Wanted share of queued images, in (0, 1).
        max_bytes: A larger file is not looked at.
        hear: Called with every new line.
        complain: Called with every sentence about a file that could not be read.
        clock: Seconds, for how long a file stood still.
    """

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        scorer: Scorer,
        judge: Judge,
        *,
        rate: float = 0.1,
        max_bytes: int = 64 * 2**20,
        hear: Callable[[Line], None] = lambda _line: None,
        complain: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < rate < 1:
            raise SettingError(f"--rate is {rate:g}: more than 0 and less than 1 is allowed, such as .1")
        if not folder.is_dir():
            raise SettingError(f"{folder} is not a folder: name the one in which images arrive")
        self._folder, self._journal, self._scorer, self._judge = folder, journal, scorer, judge
        self._max_bytes, self._hear, self._complain, self._clock = max_bytes, hear, complain, clock
        self._settled: dict[Path, Stamp] = {}
        self._waiting: dict[Path, tuple[Stamp, float]] = {}
        self._take_up(rate)

    def _take_up(self, rate: float) -> None:
        """Where the journal says that everything stood."""
        lines = self._journal.lines()
        own = [line for line in lines if line.by == WATCH]
        self.decided = {line.sha256 for line in lines}
        self._window = deque((line.value for line in own), maxlen=WINDOW)
        # Utilities are ranks, so that the quantile wanted is known before the first image.
        level = own[-1].threshold if own else 1 - rate
        self.threshold = Threshold(level, rate, seen=len(own), queued=sum(line.queued == "yes" for line in own))

    @property
    def unfinished(self) -> list[Path]:
        """Files that did not stand still for long enough yet."""
        return sorted(self._waiting)

    def look(self) -> int:
        """Decide every image that is complete and new; returns how many were decided."""
        ready, done = self._complete(), 0
        for start in range(0, len(ready), BATCH):
            done += self._decide(ready[start : start + BATCH])
        if done:
            self._journal.sync()
        return done

    def _complete(self) -> list[tuple[Path, Stamp]]:
        """Files that stood still and were not looked at as they are now; oldest change first."""
        now, there = self._clock(), dict[Path, Stamp]()
        for path in self._listed():
            try:
                there[path] = stamp(path)
            except OSError:
                continue  # it went between the listing and now
        self._settled = {p: s for p, s in self._settled.items() if there.get(p) == s}
        waiting, ready = dict[Path, tuple[Stamp, float]](), list[Path]()
        for path, seen in there.items():
            if path in self._settled:
                continue
            known, since = self._waiting.get(path, (seen, now))
            since = since if known == seen else now
            if seen[0] and known == seen and now - since >= SETTLE_S:
                ready.append(path)
            else:
                waiting[path] = (seen, since)
        self._waiting = waiting
        return sorted(((p, there[p]) for p in ready), key=lambda found: (found[1][1], found[0]))

    def _listed(self) -> list[Path]:
        try:
            return find_images(self._folder)
        except MediaError:
            return []

    def _decide(self, ready: Sequence[tuple[Path, Stamp]]) -> int:
        self._settled |= dict(ready)
        new = [path for path, _ in ready if read_image(path, self._max_bytes).sha256 not in self.decided]
        scored = self._scorer.score(new)
        fresh: dict[str, tuple[ImageFile, Prediction]] = {}
        for file, prediction in zip(scored.files, scored.predictions, strict=True):
            if prediction is None:
                self._complain(file.problem)
            else:
                fresh.setdefault(file.sha256, (file, prediction))
        said = self._judge.values([prediction for _, prediction in fresh.values()])
        values = np.array([*self._window, *(value for value, _ in said)])
        for (file, _), (value, words) in zip(fresh.values(), said, strict=True):
            self._add(file, value, words, values)
        return len(fresh)

    def _add(self, file: ImageFile, value: float, words: str, values: Values) -> None:
        """One decision, on the disk before the next one."""
        utility = float(((values < value).sum() + 0.5 * (values == value).sum()) / len(values))
        level = self.threshold.level
        queued, self.threshold = decide(self.threshold, utility)
        share = f"more informative than {100 * utility:.0f} % of the images so far"
        reason = f"{words}; {share}" if words else share
        line = Line(
            _now(),
            str(file.path),
            "yes" if queued else "no",
            round(utility, 6),
            f"{reason}, {'at or above' if queued else 'below'} the running threshold of {100 * level:.0f} %",
            WATCH,
            value,
            self.threshold.level,
            file.sha256,
        )
        self._journal.add(line)
        self.decided.add(file.sha256)
        self._window.append(value)
        self._hear(line)

    def run(self, interval: float, *, once: bool = False, sleep: Callable[[float], None] = time.sleep) -> int:
        """Look again and again; with ``once`` until what is complete now is decided. Returns images decided.

        Raises:
            SettingError: An interval that is not above 0.
        """
        if not interval > 0:
            raise SettingError(f"--interval is {interval:g}: more than 0 seconds is allowed")
        done = self.look()
        while not once:
            sleep(interval)
            done += self.look()
        sleep(SETTLE_S)
        return done + self.look()


def reverse(journal: Journal, image: Path, *, queued: bool) -> Line:
    """A person's decision about an image that was decided: one line more, nothing is lost.

    Raises:
        SettingError: The file cannot be read, or its content was never decided.
    """
    file = read_image(image, 2**62)
    if file.problem:
        raise SettingError(file.problem)
    known = [line for line in journal.lines() if line.sha256 == file.sha256]
    if not known:
        raise SettingError(f"{image} has not been decided in {journal.path}: watch decides it when it arrives")
    word = "put into the queue" if queued else "taken out of the queue"
    line = replace(
        known[-1], at=_now(), path=str(image), queued="yes" if queued else "no", reason=f"{word} by a person", by=PERSON
    )
    journal.add(line)
    return line


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
