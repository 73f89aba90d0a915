"""A journal goes on with what it was made with, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import SettingError
from common.experiments.journal import Journal, Line
from common.experiments.made_with import MadeWith, begin

NOW = MadeWith("a" * 64, "best.pt", 640, "flip", ("dog", "kitty"), "entropy")
LINE = Line("2026-01-01", "a.png", "yes", 0.5, "why", "watch", 1.0, 0.9, "0" * 64)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "queue.csv")


def start(journal: Journal, made: MadeWith = NOW) -> list[str]:
    notes: list[str] = []
    begin(journal, made, "2026-01-01", notes.append)
    return notes


def test_the_head_says_what_it_was_made_with_and_is_written_once(journal: Journal) -> None:
    assert start(journal) == []
    first = journal.path.read_bytes()
    journal.add(LINE)
    assert start(journal) == []
    assert start(journal, replace(NOW, weights="renamed.pt")) == [], "the content counts"
    assert journal.path.read_bytes().startswith(first)
    assert journal.lines() == [LINE]
    assert journal.path.read_text().count("made with") == 1


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"model": "b" * 64, "weights": "other.pt"}, r"--model best\.pt aaaaaaaa \(now other\.pt bbbbbbbb\)"),
        ({"imgsz": 320}, r"--imgsz 640 \(now 320\)"),
        ({"committee": ""}, r"--committee flip \(now none\)"),
        ({"classes": ("dog",)}, r"--classes dog,kitty \(now dog\)"),
        ({"acquisition": "margin", "imgsz": 320}, r"--imgsz 640 \(now 320\) and --acquisition entropy \(now margin\)"),
    ],
)
def test_another_scale_is_refused_in_one_sentence_and_nothing_changes(
    journal: Journal, other: dict[str, object], said: str
) -> None:
    start(journal)
    journal.add(LINE)
    before = journal.path.read_bytes()
    with pytest.raises(SettingError, match=rf"queue\.csv, which was made with {said}, .* another --out, .* --restart"):
        start(journal, replace(NOW, **other))
    assert journal.path.read_bytes() == before


def test_an_old_journal_is_gone_on_with_and_a_note_says_so_once(journal: Journal) -> None:
    journal.add(LINE)
    assert [note.partition(" does not say")[0] for note in start(journal)] == [str(journal.path)]
    assert start(journal) == []
    with pytest.raises(SettingError, match="--imgsz"):
        start(journal, replace(NOW, imgsz=320))
    assert journal.lines() == [LINE]


def test_a_head_that_was_cut_off_is_written_again(journal: Journal) -> None:
    start(journal)
    whole = journal.path.read_bytes()
    for end in range(len(whole)):
        journal.path.write_bytes(whole[:end])
        assert start(journal) == []
        assert start(journal) == []
        with pytest.raises(SettingError, match="--imgsz"):
            start(journal, replace(NOW, imgsz=320))


def test_a_setting_that_is_younger_than_the_journal_is_taken_as_equal(journal: Journal) -> None:
    journal.keep("2026-01-01", "made with", {"model": NOW.model, "imgsz": 640})
    assert start(journal) == []


def test_a_journal_is_set_aside_under_a_free_name(journal: Journal) -> None:
    assert journal.set_aside() is None
    for n in (1, 2):
        journal.add(LINE)
        kept = journal.path.read_bytes()
        moved = journal.set_aside()
        assert moved is not None
        assert (moved.name, moved.read_bytes()) == (f"queue.{n}.csv", kept)
        assert journal.lines() == []
    journal.path.write_text("rank,path\n1,a.png\n")
    with pytest.raises(SettingError, match="is not a queue of"):
        journal.set_aside()
    assert journal.path.exists()
