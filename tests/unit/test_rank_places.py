"""`hardfirst rank`: where an order and a sheet may be written, and what they are never written over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from common.cli import main
from common.errors import SettingError
from common.experiments import command_line, rank
from common.experiments.rank import Request
from common.experiments.ranking import Wish
from tests.fakes import FakeModels
from tests.unit.rank_folder import (  # noqa: F401 - fixtures
    Run,
    cells,
    command_fixture,
    folder_fixture,
    models_fixture,
    ranked_fixture,
    settings_fixture,
    store_fixture,
)


def test_a_failed_write_leaves_the_old_order(ranked: Run, folder: Path, tmp_path: Path) -> None:
    ranked(folder)
    before = (tmp_path / "order.csv").read_bytes()
    with pytest.raises(ValueError, match="nonsense"):
        rank.write_csv(tmp_path / "order.csv", [{"rank": 1}, {"nonsense": 2}])
    assert (tmp_path / "order.csv").read_bytes() == before
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_a_sheet_is_never_written_over_anything_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not even a picture")
    for other in (folder / "2.png", tmp_path / "notes.png"):
        with pytest.raises(SettingError, match="which exists and is no contact sheet of hardfirst: name another file"):
            Request(folder, tmp_path / "order.csv", Wish(), sheet=other)
    Request(folder, tmp_path / "order.csv", Wish(), sheet=tmp_path / "new.png")


def test_an_order_is_never_written_over_a_picture_or_what_is_read_from(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a name for a picture"):
        Request(folder, folder / "2.png", Wish())
    listing = tmp_path / "list.txt"
    listing.write_text("2.png\n")
    with pytest.raises(SettingError, match="which is also what is read from"):
        Request(folder, listing, Wish(), labelled=listing)


@pytest.fixture
def kept(clean_home: Path) -> Path:
    """HARDFIRST_HOME with what a service keeps there."""
    (clean_home / "models").mkdir(parents=True)
    (clean_home / "models" / "mine.pt").write_bytes(b"weights")
    (clean_home / "hardfirst.db").write_bytes(b"rows")
    return clean_home


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("pipe", "which is no regular file but a device, a pipe or the like: name a file"),
        ("home", "which is a folder"),
        ("home/hardfirst.db", "which hardfirst keeps in"),
        ("home/models/mine.pt", "also what is read from"),
        ("to-the-store.csv", "which hardfirst keeps in"),
        ("w.pt", "which is also what is read from"),
        ("other.pt", "which is also what is read from"),
        ("w.pt/order.csv", "w.pt cannot be written (Not a directory): name another place"),
    ],
)
def test_an_order_that_would_destroy_something_is_refused_before_a_model_is_opened(
    kept: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, why: str
) -> None:
    monkeypatch.setattr(command_line, "open_model", lambda _settings: pytest.fail("work was begun"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-the-store.csv").symlink_to(kept / "hardfirst.db")
    (tmp_path / "w.pt").write_bytes(b"weights")
    (tmp_path / "other.pt").write_bytes(b"others")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    words = ["--model", "mine.pt" if "mine" in out else "w.pt", "--committee", "other.pt"]
    done = CliRunner().invoke(main, ["rank", str(folder), "--out", out, *words])
    assert done.exit_code == 2, done.output
    assert f"--out is {out}, " in done.output
    assert why in done.output
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_database_that_is_not_there_yet_is_no_place_for_an_order(
    command: Callable[..., Result], folder: Path, clean_home: Path
) -> None:
    assert command(str(folder), "--out", str(clean_home / "hardfirst.db")).exit_code == 2
    assert not (clean_home / "hardfirst.db").exists()


def test_an_order_in_the_folder_of_hardfirst_may_be_written_again(
    command: Callable[..., Result], folder: Path, clean_home: Path
) -> None:
    """In a container nothing else can be written."""
    for _ in range(2):
        done = command(str(folder), "--out", str(clean_home / "order.csv"), "--sheet")
        assert done.exit_code == 0, done.output


def test_an_order_goes_through_a_link_to_the_file_behind_it(ranked: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "order.csv").symlink_to(tmp_path / "real.csv")
    (tmp_path / "sheet.png").symlink_to(tmp_path / "real.png")
    ranked(folder, sheet=tmp_path / "sheet.png")
    assert (tmp_path / "order.csv").is_symlink()
    assert (tmp_path / "sheet.png").is_symlink()
    assert len(cells(tmp_path / "real.csv")) == 8
    with Image.open(tmp_path / "real.png") as sheet:
        assert sheet.width > 0


def test_a_sheet_is_no_pipe_and_its_own_folder_is_named_when_it_cannot_be_written(
    command: Callable[..., Result], folder: Path, tmp_path: Path, models: FakeModels
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    piped = command(str(folder), "--out", "order.csv", "--sheet", "pipe.png")
    assert "--sheet is pipe.png, which is no regular file" in piped.output
    (tmp_path / "file").write_text("in the way")
    barred = command(str(folder), "--out", "order.csv", "--sheet", "file/sheet.png")
    assert (piped.exit_code, barred.exit_code) == (2, 2)
    assert f"--sheet is file/sheet.png, but {tmp_path / 'file'} cannot be written" in barred.output
    assert models.seen == []
    assert not Path("order.csv").exists()
