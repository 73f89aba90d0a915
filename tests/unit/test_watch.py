"""`hardfirst watch`: what arrives is decided once, at the wanted rate, whatever happens. The model is a fake."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from common.cli import main
from common.config import Settings
from common.domain import Instances
from common.errors import SettingError
from common.experiments import command_line, scoring, watch
from common.experiments.files import ImageFile
from common.experiments.journal import COLUMNS, Journal, Line, queue
from common.experiments.judge import Judge
from common.experiments.ranking import project_classes
from common.experiments.scoring import Scorer
from common.experiments.sheet import save_sheet
from common.experiments.watch import SETTLE_S, Watcher, reverse
from common.store import Store, open_store
from tests.fakes import FakeDetector, FakeModels, picture

Make = Callable[..., Watcher]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "incoming"
    made.mkdir()
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home", imgsz=320)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    settings.folder.mkdir()
    made = open_store(settings.database, settings.folder)
    yield made
    made.close()


@pytest.fixture
def models() -> FakeModels:
    return FakeModels(("kitty", "dog"))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "queue.csv")


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def make(
    folder: Path, journal: Journal, settings: Settings, store: Store, models: FakeModels, now: list[float]
) -> Make:
    """A watcher as after a restart."""

    def made(**given: Any) -> Watcher:
        model = models.base("")
        judge = Judge(project_classes(model), given.pop("acquisition", "entropy"))
        scorer = Scorer(store, models, model, settings)
        return Watcher(folder, given.pop("journal", journal), scorer, judge, clock=lambda: now[0], **given)

    return made


def settle(watcher: Watcher, now: list[float]) -> int:
    """Two looks with enough time between them."""
    done = watcher.look()
    now[0] += SETTLE_S
    return done + watcher.look()


def arrive(folder: Path, *numbers: int, at: int = 0) -> None:
    for i in numbers:
        picture(folder / f"{i}.png", i)
        os.utime(folder / f"{i}.png", ns=(0, (at + i) * 10**9))


def test_what_arrives_is_decided_in_order_of_arrival_with_a_reason(
    make: Make, folder: Path, journal: Journal, now: list[float]
) -> None:
    arrive(folder, 3, 1, 2)
    assert settle(make(), now) == 3
    lines = journal.lines()
    assert [Path(line.path).name for line in lines] == ["1.png", "2.png", "3.png"]
    assert all(0 <= line.utility <= 1 and "more informative than" in line.reason for line in lines)
    assert any("kitty" in line.reason for line in lines)
    assert journal.path.read_text().splitlines()[0] == ",".join(COLUMNS)


def test_the_wanted_share_is_queued_and_it_is_the_informative_one(
    make: Make, folder: Path, journal: Journal, now: list[float]
) -> None:
    watcher = make(rate=0.2)
    for start in range(0, 150, 30):
        arrive(folder, *range(start, start + 30))
        settle(watcher, now)
    lines = journal.lines()
    assert len(lines) == 150
    assert len(queue(lines)) == pytest.approx(0.2 * 150, abs=6)
    kept = [line.utility for line in lines if line.queued == "no"]
    chosen = [line.utility for line in queue(lines)]
    assert sum(chosen) / len(chosen) > 0.75 > sum(kept) / len(kept)


def test_with_gradient_lengths_every_image_is_compared_with_all_that_came_before(
    make: Make, folder: Path, journal: Journal, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone, model_change would be one half of every image; 9 has no box but a doubt between 1 and 5."""
    one = FakeDetector._one

    def longer(self: FakeDetector, path: Path) -> Any:
        found: Any = one(self, path)
        if path.stem != "9":
            return replace(found, model_change=found.model_change + int(path.stem))
        none = Instances(np.zeros((0, 4), np.float32), np.zeros((0, 2), np.float32))
        doubt = np.array([0.05, 0], np.float32)
        return replace(found, instances=none, doubt=doubt, disagreement=np.zeros(0, np.float32))

    monkeypatch.setattr(FakeDetector, "_one", longer)
    for i in (5, 1, 9, 7):
        arrive(folder, i)
        settle(make(acquisition="model_change"), now)
    assert [line.utility for line in journal.lines()] == [0.5, 0.25, 0.5, 0.875]
    assert "the first image, there is nothing to compare it with" in journal.lines()[0].reason


def near(folder: Path, number: int, by: int = 2) -> Path:
    """A nearly equal copy of an image."""
    copy = folder / f"{number}-again-{by}.png"
    with Image.open(folder / f"{number}.png") as image:
        image.point(lambda v: min(255, v + by)).save(copy)
    return copy


def test_what_looks_like_an_image_that_came_before_is_kept_and_moves_nothing(
    make: Make, folder: Path, journal: Journal, now: list[float]
) -> None:
    arrive(folder, *range(8))
    settle(make(), now)
    before = make().threshold
    near(folder, 3), near(folder, 5)
    watcher = make()
    assert settle(watcher, now) == 2
    near(folder, 3, by=3)
    assert settle(watcher, now) == 1
    assert settle(make(), now) == 0
    last = journal.lines()[-3:]
    assert [(line.queued, line.by) for line in last] == [("no", "duplicate")] * 3
    assert last[0].reason == f"near-duplicate of {folder / '3.png'}, which came before it"
    assert last[2].reason == last[0].reason
    assert make().threshold == watcher.threshold == before
    reverse(journal, Path(last[0].path), queued=True)
    assert last[0].sha256 in {line.sha256 for line in queue(journal.lines())}


def test_near_duplicates_are_judged_like_others_where_that_is_asked_for(
    make: Make, folder: Path, journal: Journal, now: list[float]
) -> None:
    arrive(folder, *range(8))
    near(folder, 3)
    settle(make(deduplicate=False), now)
    assert {line.by for line in journal.lines()} == {"watch"}


def test_a_contact_sheet_that_arrives_is_passed_over(make: Make, folder: Path, now: list[float]) -> None:
    save_sheet(Image.new("RGB", (30, 20)), folder / "sheet.png")
    assert settle(make(), now) == 0


def test_a_file_that_is_still_being_written_waits(make: Make, folder: Path, now: list[float]) -> None:
    arrive(folder, 1)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(b"")
    watcher = make()
    assert settle(watcher, now) == 0
    for end in (100, 200, len(whole)):
        (folder / "1.png").write_bytes(whole[:end])
        now[0] += SETTLE_S
        assert watcher.look() == 0
        assert watcher.unfinished == [folder / "1.png"]
    now[0] += SETTLE_S / 2
    assert watcher.look() == 0
    now[0] += SETTLE_S / 2
    assert watcher.look() == 1
    assert watcher.unfinished == []


def test_a_copy_that_stopped_half_way_is_reported_once_and_decided_when_it_is_complete(
    make: Make, folder: Path, now: list[float]
) -> None:
    arrive(folder, 1)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    told: list[str] = []
    watcher = make(complain=told.append)
    for _ in range(3):
        assert settle(watcher, now) == 0
    assert len(told) == 1
    (folder / "1.png").write_bytes(whole)
    assert settle(watcher, now) == 1


def test_the_same_content_is_never_decided_twice(
    make: Make, folder: Path, journal: Journal, models: FakeModels, now: list[float]
) -> None:
    arrive(folder, 1, 2)
    watcher = make()
    assert settle(watcher, now) == 2
    shutil.copy(folder / "1.png", folder / "copy.png")
    (folder / "2.png").rename(folder / "renamed.png")
    (folder / "1.png").touch()
    assert settle(watcher, now) == 0
    assert settle(make(), now) == 0
    arrive(folder, 3)
    shutil.copy(folder / "3.png", folder / "twin.png")
    assert settle(make(), now) == 1
    assert max(Counter(line.sha256 for line in journal.lines()).values()) == 1
    assert len(models.seen) == 3


def test_a_restart_goes_on_where_it_was(
    make: Make, folder: Path, tmp_path: Path, journal: Journal, now: list[float]
) -> None:
    other = Journal(tmp_path / "other.csv")
    one = make(journal=other)
    for start in range(0, 20, 5):
        arrive(folder, *range(start, start + 5))
        settle(one, now)
        settle(make(), now)
    strip = [(line.path, line.queued, line.utility, line.threshold) for line in journal.lines()]
    assert strip == [(line.path, line.queued, line.utility, line.threshold) for line in other.lines()]
    assert (make().threshold.seen, make().threshold.queued) == (one.threshold.seen, one.threshold.queued)


def test_killed_at_any_byte_every_image_is_decided_once_and_nothing_else_changes(
    make: Make, folder: Path, journal: Journal, now: list[float]
) -> None:
    arrive(folder, *range(4))
    settle(make(), now)
    written = journal.path.read_bytes()
    expected = [(line.path, line.queued) for line in journal.lines()]
    for end in range(0, len(written), 7):
        journal.path.write_bytes(written[:end])
        whole = len(journal.lines())
        assert settle(make(), now) == 4 - whole
        assert [(line.path, line.queued) for line in journal.lines()] == expected


def test_a_person_reverses_a_decision_by_one_line_more(
    make: Make, folder: Path, journal: Journal, now: list[float]
) -> None:
    arrive(folder, *range(6))
    settle(make(), now)
    before = journal.path.read_bytes()
    kept = next(line for line in journal.lines() if line.queued == "no")
    level = make().threshold
    reverse(journal, Path(kept.path), queued=True)
    assert journal.path.read_bytes().startswith(before)
    assert kept.sha256 in {line.sha256 for line in queue(journal.lines())}
    assert make().threshold == level
    assert settle(make(), now) == 0
    reverse(journal, Path(kept.path), queued=False)
    assert kept.sha256 not in {line.sha256 for line in queue(journal.lines())}
    arrive(folder, 99)
    with pytest.raises(SettingError, match="has not been decided"):
        reverse(journal, folder / "99.png", queued=True)


def test_a_line_break_in_a_name_does_not_end_a_line(
    make: Make, folder: Path, journal: Journal, now: list[float]
) -> None:
    picture(folder / 'a\nb,".png', 1)
    settle(make(), now)
    assert [Path(line.path).name for line in journal.lines()] == ['a?b,".png']


def test_another_file_is_not_taken_for_a_queue(journal: Journal) -> None:
    journal.path.write_text("rank,path\n1,a.png\n")
    with pytest.raises(SettingError, match="is not a queue of"):
        journal.lines()


def test_a_queue_that_a_spreadsheet_saved_is_read(make: Make, folder: Path, journal: Journal, now: list[float]) -> None:
    arrive(folder, 1, 2)
    settle(make(), now)
    lines = journal.lines()
    journal.path.write_bytes(b"\xef\xbb\xbf" + journal.path.read_bytes().replace(b"\n", b"\r\n"))
    assert journal.lines() == lines


def test_two_watches_on_one_queue_are_refused_and_a_person_is_not(journal: Journal) -> None:
    line = Line("2026-01-01", "a.png", "yes", 0.5, "why", "person", 1.0, 0.9, "0" * 64)
    with journal.alone():
        with pytest.raises(SettingError, match="another `hardfirst watch` is at work"), Journal(journal.path).alone():
            pass
        Journal(journal.path).add(line)
    assert journal.lines() == [line]


@pytest.mark.parametrize(("given", "why"), [({"rate": 0.0}, "--rate is 0"), ({"rate": 1.0}, "--rate is 1")])
def test_a_rate_that_is_none_is_refused(make: Make, given: dict[str, float], why: str) -> None:
    with pytest.raises(SettingError, match=why):
        make(**given)


def test_the_loop_sleeps_between_looks(make: Make, folder: Path, now: list[float]) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        arrive(folder, len(slept))
        if len(slept) == 4:
            raise KeyboardInterrupt

    watcher = make()
    with pytest.raises(KeyboardInterrupt):
        watcher.run(1.5, sleep=sleep)
    assert slept == [1.5] * 4
    assert len(watcher.decided) == 2
    with pytest.raises(SettingError, match="--interval is 0"):
        watcher.run(0)


def test_a_folder_that_is_away_for_a_moment_is_waited_for(
    make: Make, folder: Path, tmp_path: Path, models: FakeModels, now: list[float]
) -> None:
    arrive(folder, 1)
    (folder / "bad.jpg").write_text("no")
    told: list[str] = []
    watcher = make(complain=told.append)
    assert settle(watcher, now) == 1
    told.clear()
    folder.rename(tmp_path / "away")
    for _ in range(3):
        assert settle(watcher, now) == 0
    (tmp_path / "away").rename(folder)
    arrive(folder, 2)
    assert settle(watcher, now) == 1
    assert told == [
        f"the folder {folder} is gone or cannot be read: watch goes on when it is back",
        f"the folder {folder} is back",
    ]
    shutil.rmtree(folder)
    with pytest.raises(SettingError, match="is not a folder: name the one"):
        make()


def test_a_file_that_could_not_be_read_for_a_moment_is_decided_when_it_can(
    make: Make, folder: Path, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time of change stays as it was: nothing but another try can tell."""
    arrive(folder, 1)
    tries: list[float] = []
    real = scoring.read_image

    def barred(path: Path, most: int) -> ImageFile:
        tries.append(now[0])
        return ImageFile(path, "", problem=f"{path.name}: Permission denied")

    monkeypatch.setattr(scoring, "read_image", barred)
    told: list[str] = []
    watcher = make(complain=told.append)
    for _ in range(2000):
        assert watcher.look() == 0
        now[0] += 1
    pauses = np.diff(tries)
    assert told == ["1.png: Permission denied"]
    assert len(tries) < 20
    assert (pauses[:4] < [4, 6, 10, 18]).all()
    assert (np.diff(pauses) >= 0).all()
    assert pauses.max() == pytest.approx(300, abs=2)
    monkeypatch.setattr(scoring, "read_image", real)
    now[0] += 300
    assert settle(watcher, now) == 1
    assert settle(watcher, now) == 0


@pytest.mark.usefixtures("clean_home")
@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("pipe", "which is no regular file"),
        ("home", "which is a folder"),
        ("home/hardfirst.db", "which hardfirst keeps in"),
        ("w.pt", "which is also what is read from"),
        ("w.pt/queue.csv", "cannot be written (Not a directory)"),
    ],
)
def test_a_queue_goes_only_where_a_file_of_its_own_may_be(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, why: str
) -> None:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: pytest.fail("work was begun"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "hardfirst.db").write_bytes(b"")
    (tmp_path / "w.pt").write_bytes(b"\nweights")
    done = CliRunner().invoke(main, ["watch", str(folder), "--once", "--model", "w.pt", "--out", out])
    assert done.exit_code == 2, done.output
    assert f"--out is {out}, " in done.output
    assert why in done.output
    assert sorted(p.name for p in (tmp_path / "home").iterdir()) == ["hardfirst.db"]


def test_a_queue_in_the_folder_of_hardfirst_goes_on(
    clean_home: Path, folder: Path, tmp_path: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: (models, models.base("")))
    monkeypatch.setattr(watch, "SETTLE_S", 0.01)
    arrive(folder, 1)
    (tmp_path / "link.csv").symlink_to(clean_home / "queue.csv")
    for decided in (1, 2):
        done = CliRunner().invoke(main, ["watch", str(folder), "--once", "--out", "link.csv"])
        assert done.exit_code == 0, done.output
        assert f"{decided} images decided" in done.output
        arrive(folder, 2)
    assert len(Journal(clean_home / "queue.csv").lines()) == 2
    assert (tmp_path / "link.csv").is_symlink()


@pytest.mark.usefixtures("clean_home")
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_former_checkpoints_that_a_variable_names_are_left_out_with_a_note(
    folder: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: (models, models.base("")))
    monkeypatch.setattr(watch, "SETTLE_S", 0.01)
    monkeypatch.setenv("HARDFIRST_COMMITTEE", "flip,checkpoints")
    arrive(folder, 1)
    done = CliRunner().invoke(main, ["watch", str(folder), "--once", *words])
    assert done.exit_code == 0, done.output
    told = "note: HARDFIRST_COMMITTEE names 'checkpoints', which only a project has: they are not asked here"
    assert done.stderr.count(told) == 1
    assert "HARDFIRST_COMMITTEE" not in done.stdout


@pytest.mark.usefixtures("clean_home")
def test_the_command_decides_reverses_and_counts(
    folder: Path, tmp_path: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: (models, models.base("")))
    monkeypatch.setattr(watch, "SETTLE_S", 0.01)
    arrive(folder, 1, 2, 3)
    (folder / "bad.jpg").write_text("no")
    (folder / "empty.jpg").write_bytes(b"")
    run = lambda *words: CliRunner().invoke(main, ["watch", str(folder), *words])  # noqa: E731
    done = run("--once")
    assert done.exit_code == 0
    assert "3 images decided" in done.output
    assert "bad.jpg: damaged" in done.output
    assert "empty.jpg: left alone" in done.output
    kept = next(line for line in Journal(tmp_path / "queue.csv").lines() if line.queued == "no")
    assert "put into the queue by a person" in run("--requeue", Path(kept.path).name).output
    assert kept.sha256 in {line.sha256 for line in queue(Journal(tmp_path / "queue.csv").lines())}
    assert run("--once", "--rate", "2").exit_code == 2
    before = (tmp_path / "queue.csv").read_bytes()
    other = run("--once", "--imgsz", "320")
    assert other.exit_code == 2
    assert "queue.csv, which was made with --imgsz 640 (now 320)" in other.output
    assert (tmp_path / "queue.csv").read_bytes() == before
    for wrong, said in (("deduplicate=many", "it takes true or false"), ("guard=true", "has the option")):
        refused = run("--once", "--option", wrong)
        assert refused.exit_code == 2
        assert said in refused.output
    anew = run("--once", "--imgsz", "320", "--restart", "--option", "deduplicate=false")
    assert anew.exit_code == 0
    assert "queue.csv begins anew; what was in it is queue.1.csv" in anew.output
    assert (tmp_path / "queue.1.csv").read_bytes() == before
    *decided, counted = map(json.loads, run("--once", "--restart", "--json").stdout.splitlines())
    assert {Path(line["path"]).name for line in decided} >= {"1.png", "2.png", "3.png"}
    assert (counted["decided"], counted["queued"]) == (3, sum(line["queued"] for line in decided))
    assert run("--restart", "--requeue", "1.png").exit_code == 2
    models.usable = False
    cold = run("--once")
    assert cold.exit_code == 2
    assert "watch needs trained weights" in cold.output
