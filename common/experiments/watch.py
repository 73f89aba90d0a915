"""`hardfirst watch`: images that arrive in a folder are scored, and queued or kept aside, one after the other.

An image's value is hybrid's (the doubt of its boxes); its utility is the share of the last ``WINDOW`` images with a
lower value; it is queued when that is at or above a running quantile that keeps a rate (``strategies.stream``). A
near-duplicate of an image that came before is kept, and moves neither that quantile nor the values compared with.
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
from common.experiments.files import Found, ImageFile, Stamp, look, read_image, stamp
from common.experiments.journal import DUPLICATE, PERSON, WATCH, Journal, Line
from common.experiments.judge import Judge
from common.experiments.scoring import Scored, Scorer
from common.experiments.seen import Seen
from common.experiments.sheet import is_sheet
from common.strategies.pool import Values
from common.strategies.stream import Threshold, decide

WINDOW = 2000
"""Images a new one is compared with."""
BATCH = 256
"""Images scored before they are decided, at most: those of one batch are compared with each other too."""
SETTLE_S = 1.0
"""A file whose size and time of change stand still for this long is taken to be complete."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
"""A file that could not be read is tried again after the first, then after pauses twice as long, up to the second."""
CALIBRATION = "calibration"
"""The journal's lines of this kind: up to which distance images are near-duplicates here."""


@dataclass(frozen=True)
class Failure:
    """A file that could not be read.

    Attributes:
        problem: The sentence that was told.
        stamp: Of the file as it was; another one is another try.
        pause: Seconds before the next try, in [FIRST_PAUSE_S, LONGEST_PAUSE_S].
        again: When that is, by the watcher's clock.
    """

    problem: str
    stamp: Stamp
    pause: float
    again: float


class Watcher:
    """Decides what arrives; all that must survive is in the journal.

    Args:
        folder: Where images arrive, in folders below it too.
        journal: Of earlier decisions and new ones.
        scorer: Scores images, each content once.
        judge: Values them.
        rate: Wanted share of queued images, in (0, 1).
        deduplicate: Keep near-duplicates of images that came before, whatever they are worth.
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
        deduplicate: bool = True,
        max_bytes: int = 64 * 2**20,
        hear: Callable[[Line], None] = lambda _line: None,
        complain: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        require(folder, rate)
        self._folder, self._journal, self._scorer, self._judge = folder, journal, scorer, judge
        self._max_bytes, self._hear, self._complain, self._clock = max_bytes, hear, complain, clock
        self._settled: dict[Path, Stamp] = {}
        self._waiting: dict[Path, tuple[Stamp, float]] = {}
        self._failed: dict[Path, Failure] = {}
        self._gone = False
        self._take_up(rate)
        self._seen = self._recall() if deduplicate else None

    def _take_up(self, rate: float) -> None:
        """Where the journal says that everything stood."""
        lines = self._journal.lines()
        own = [line for line in lines if line.by == WATCH]
        self.decided = {line.sha256: line for line in lines}
        self._window = deque((line.value for line in own), maxlen=WINDOW)
        # Utilities are ranks, so that the quantile wanted is known before the first image.
        level = own[-1].threshold if own else 1 - rate
        self.threshold = Threshold(level, rate, seen=len(own), queued=sum(line.queued == "yes" for line in own))

    def _recall(self) -> Seen:
        """The images decided so far, as far as their descriptors are still known."""
        bodies = self._scorer.descriptors(list(self.decided))
        known = self._journal.known(CALIBRATION)
        return Seen(
            list(self.decided),
            [Path(line.path) for line in self.decided.values()],
            [bodies.get(sha) for sha in self.decided],
            (float(known["distance"]), int(known["images"])) if known else None,
            lambda far, n: self._journal.keep(now(), CALIBRATION, {"distance": far, "images": n}),
        )

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
        listed = self._listed()
        if listed is None:
            return []
        for path in listed:
            try:
                there[path] = stamp(path)
            except OSError:
                continue  # it went between the listing and now
        self._settled = {p: s for p, s in self._settled.items() if there.get(p) == s}
        self._failed = {p: f for p, f in self._failed.items() if there.get(p) == f.stamp}
        waiting, ready = dict[Path, tuple[Stamp, float]](), list[Path]()
        for path, seen in there.items():
            failure = self._failed.get(path)
            if path in self._settled or (failure is not None and now < failure.again):
                continue
            known, since = self._waiting.get(path, (seen, now))
            since = since if known == seen else now
            if seen[0] and known == seen and now - since >= SETTLE_S:
                ready.append(path)
            else:
                waiting[path] = (seen, since)
        self._waiting = waiting
        return sorted(((p, there[p]) for p in ready), key=lambda found: (found[1][1], found[0]))

    def _listed(self) -> list[Path] | None:
        """None while the folder cannot be read: a disk that is away for a moment is no reason to end."""
        try:
            found = look(self._folder)
        except MediaError:
            found = Found()
        except (SettingError, OSError):
            if not self._gone:
                self._complain(f"the folder {self._folder} is gone or cannot be read: watch goes on when it is back")
            self._gone = True
            return None
        if self._gone:
            self._complain(f"the folder {self._folder} is back")
        self._gone = False
        return found.images

    def _decide(self, ready: Sequence[tuple[Path, Stamp]]) -> int:
        stamps = dict(ready)
        self._settled |= stamps
        unknown = [p for p, _ in ready if read_image(p, self._max_bytes).sha256 not in self.decided]
        scored = self._scorer.score([path for path in unknown if not is_sheet(path)])
        fresh: dict[str, tuple[ImageFile, Prediction]] = {}
        for file, prediction in zip(scored.files, scored.predictions, strict=True):
            if prediction is None:
                self._fail(file, stamps[file.path])
            else:
                self._failed.pop(file.path, None)
                fresh.setdefault(file.sha256, (file, prediction))
        files = [file for file, _ in fresh.values()]
        firsts = self._alike(files, scored)
        said = self._judge.values([prediction for _, prediction in fresh.values()])
        values = np.array(
            [*self._window, *(value for (value, _), first in zip(said, firsts, strict=True) if not first)]
        )
        for file, (value, words), first in zip(files, said, firsts, strict=True):
            line = self._kept(file, value, values, first) if first else self._judged(file, value, words, values)
            self._journal.add(line)
            self.decided[file.sha256] = line
            self._hear(line)
        return len(files)

    def _fail(self, file: ImageFile, seen: Stamp) -> None:
        """Look again later, after pauses that grow; the same sentence is told once."""
        before = self._failed.get(file.path)
        if before is None or before.problem != file.problem:
            self._complain(file.problem)
        pause = FIRST_PAUSE_S if before is None else min(2 * before.pause, LONGEST_PAUSE_S)
        self._settled.pop(file.path, None)
        self._failed[file.path] = Failure(file.problem, seen, pause, self._clock() + pause)

    def _alike(self, files: Sequence[ImageFile], scored: Scored) -> list[str]:
        """The content that each is a near-duplicate of, '' = of none that came before."""
        if self._seen is None or not files:
            return [""] * len(files)
        names = [file.sha256 for file in files]
        return self._seen.meet(names, [f.path for f in files], [scored.descriptors.get(sha) for sha in names])

    def _judged(self, file: ImageFile, value: float, words: str, values: Values) -> Line:
        """A decision by the running threshold, which moves."""
        utility, level = self._utility(value, values), self.threshold.level
        queued, self.threshold = decide(self.threshold, utility)
        self._window.append(value)
        share = f"more informative than {100 * utility:.0f} % of the images so far"
        share = "the first image, there is nothing to compare it with" if len(values) == 1 else share
        reason = f"{words}; {share}" if words else share
        where = f"{'at or above' if queued else 'below'} the running threshold of {100 * level:.0f} %"
        return self._line(file, value, utility, f"{reason}, {where}", WATCH, queued=queued)

    def _kept(self, file: ImageFile, value: float, values: Values, first: str) -> Line:
        """A near-duplicate: nothing moves."""
        reason = f"near-duplicate of {self.decided[first].path}, which came before it"
        utility = self._utility(value, np.append(values, value))
        return self._line(file, value, utility, reason, DUPLICATE, queued=False)

    def _utility(self, value: float, values: Values) -> float:
        """Share of ``values``, of which it is one, that are lower; .5 with nothing else to compare with."""
        scale = self._judge.comparable(values)
        mine = scale[np.flatnonzero(values == value)[0]]
        return float(((scale < mine).sum() + 0.5 * (scale == mine).sum()) / len(scale))

    def _line(self, file: ImageFile, value: float, utility: float, reason: str, by: str, *, queued: bool) -> Line:
        word = "yes" if queued else "no"
        level = self.threshold.level
        return Line(now(), str(file.path), word, round(utility, 6), reason, by, value, level, file.sha256)

    def run(self, interval: float, *, once: bool = False, sleep: Callable[[float], None] = time.sleep) -> int:
        """Look again and again; with ``once`` until what is complete now is decided. Returns images decided.

        Raises:
            SettingError: An interval that is not above 0.
        """
        require(self._folder, self.threshold.rate, interval)
        done = self.look()
        while not once:
            sleep(interval)
            done += self.look()
        sleep(SETTLE_S)
        return done + self.look()


def require(folder: Path, rate: float, interval: float = 1) -> None:
    """Raise SettingError for what nobody can watch with."""
    if not 0 < rate < 1:
        raise SettingError(f"--rate is {rate:g}: more than 0 and less than 1 is allowed, such as .1")
    if not folder.is_dir():
        raise SettingError(f"{folder} is not a folder: name the one in which images arrive")
    if not interval > 0:
        raise SettingError(f"--interval is {interval:g}: more than 0 seconds is allowed")


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
        known[-1], at=now(), path=str(image), queued="yes" if queued else "no", reason=f"{word} by a person", by=PERSON
    )
    journal.add(line)
    return line


def now() -> str:
    """The time of a line, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
