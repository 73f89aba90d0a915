"""`hardfirst rank` as it is typed: options, sentences, exit codes. The model is a fake, files and store are real."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from common.config import Settings
from common.errors import SettingError
from common.experiments import command_line
from common.experiments.scoring import Scorer
from common.ports import Model
from common.store import Store
from tests.fakes import FakeModels
from tests.unit.rank_folder import (  # noqa: F401 - fixtures
    Run,
    command_fixture,
    folder_fixture,
    models_fixture,
    ranked_fixture,
    settings_fixture,
    store_fixture,
)


def test_classes_the_model_does_not_know_are_named(ranked: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("names: [kitty, horse]\n")
    assert ranked(folder, data=tmp_path / "some.yaml").notes == [
        "the model does not know horse: nothing is predicted for it"
    ]
    (tmp_path / "none.yaml").write_text("names: {0: horse}\n")
    assert "knows none of the classes" in ranked(folder, data=tmp_path / "none.yaml").notes[0]


def test_the_command_says_where_the_order_is_and_why(
    command: Callable[..., Result], folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.jpg").write_text("no")
    done = command(str(folder), "--out", "order.csv", "--sheet")
    assert done.exit_code == 0
    assert "9 images: 8 scored now, 0 known before, 1 unreadable, 0 labelled" in done.output
    assert "order of 9 images: order.csv" in done.output
    assert "broken.jpg: damaged" in done.output
    assert len([line for line in done.output.splitlines() if line.startswith("  ")]) == 5
    with Image.open(tmp_path / "order.png") as sheet:
        assert sheet.width > sheet.height


def test_json_is_all_there_is_on_the_output(command: Callable[..., Result], folder: Path) -> None:
    done = command(str(folder), "--out", "order.csv", "--json")
    said = json.loads(done.stdout)
    assert (said["order"], said["ranked"], len(said["top"])) == ("order.csv", 8, 5)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--strategy", "magic"], "--strategy is 'magic'; there are"),
        (["--acquisition", "magic"], "--acquisition is 'magic'; there are"),
        (["--acquisition", "consistency"], "mirrored image: add flip to --committee"),
        (["--acquisition", "vote_entropy"], "needs a committee: set --committee to"),
        (["--committee", "elsewhere/other.pt"], "--committee names 'elsewhere/other.pt', but there is no such file"),
        (["--committee", "other"], "--committee names 'other'; there are ['flip'"),
        (["--option", "acquisition=margin"], "--acquisition sets that one"),
        (["--budget", "0"], "--budget is 0: 1 or more is allowed"),
        (["--seed", "many"], "--seed"),
        (["--strategy", "core_set", "--acquisition", "margin"], "strategy 'core_set' uses none"),
        (["--option", "magic=1"], "--option names 'magic'"),
        (["--option", "spread=many"], "option spread of strategy 'hybrid' is 'many'"),
        (["--imgsz", "100"], "--imgsz is 100"),
        (["--sheet", "order.gif"], "must end in .png"),
        (["--random-slice", "2"], "--random-slice is 2"),
        (["--classes", "cow"], "the model has"),
        (["--data", "no.yaml"], "cannot be read as YAML"),
        (["--labelled", "no.txt"], "the list no.txt cannot be read"),
        (["--seed", "-1"], "--seed is -1: input should be greater than or equal to 0"),
        (["--classes", ","], "--classes is ',', which names no class"),
        (["--committee", "checkpoints"], "--committee names 'checkpoints', which only a project has"),
    ],
)
def test_misuse_is_one_sentence_and_exit_code_2(
    command: Callable[..., Result], folder: Path, words: list[str], why: str
) -> None:
    done = command(str(folder), "--out", "order.csv", *words)
    assert done.exit_code == 2
    assert why in done.output
    assert not Path("order.csv").exists()


def test_what_was_set_by_a_variable_is_named_by_it(
    command: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_COMMITTEE", "other")
    assert "HARDFIRST_COMMITTEE names 'other'" in command(str(folder), "--out", "order.csv").output


def test_other_weights_of_the_committee_are_named_by_their_path_too(
    command: Callable[..., Result], folder: Path, tmp_path: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.pt").write_bytes(b"weights")
    asked: list[str] = []
    base = models.base

    def found(name: str) -> Model:
        asked.append(name)
        return replace(base(name), sha256="1" * 64) if name else base(name)

    monkeypatch.setattr(models, "base", found)
    words = ("--acquisition", "vote_entropy", "--committee", str(tmp_path / "other.pt"))
    done = command(str(folder), "--out", "order.csv", *words)
    assert done.exit_code == 0, done.output
    assert str(tmp_path / "other.pt") in asked
    assert {members for _, _, members, _ in models.asked} == {1}


def test_options_reach_the_strategy(command: Callable[..., Result], folder: Path) -> None:
    one = command(str(folder), "--out", "a.csv", "--strategy", "uniform", "--seed", "1")
    other = command(str(folder), "--out", "b.csv", "--strategy", "uniform", "--seed", "2")
    assert one.exit_code == other.exit_code == 0
    assert Path("a.csv").read_text() != Path("b.csv").read_text()
    cold = command(str(folder), "--out", "c.csv", "--option", "regime=cold", "--option", "guard=false")
    assert "more typical than" in cold.output


def test_nothing_readable_ends_with_1_and_ctrl_c_with_130(
    command: Callable[..., Result], folder: Path, tmp_path: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    assert command("empty", "--out", "order.csv").exit_code == 1

    def interrupted(*_asked: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "detector", interrupted)
    done = command(str(folder), "--out", "order.csv")
    assert done.exit_code == 130
    assert "what was scored is kept" in done.output


def test_weights_that_are_not_there_are_misuse(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(SettingError, match="there is no such file"):
        command_line.open_model(settings.model_copy(update={"model": str(tmp_path / "none.pt")}))


def test_the_model_is_no_second_opinion_of_itself(
    command: Callable[..., Result], folder: Path, tmp_path: Path, settings: Settings, store: Store, models: FakeModels
) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    (tmp_path / "link.pt").symlink_to(tmp_path / "w.pt")
    for name in ("w.pt", "link.pt"):
        done = command(str(folder), "--out", "order.csv", "--model", "w.pt", "--committee", f"flip,{name}")
        assert done.exit_code == 2
        assert f"--committee names '{name}', which is the model itself" in done.output
    copied = settings.model_copy(update={"committee": ("copy.pt",)})
    with pytest.raises(SettingError, match=r"'copy\.pt', which holds the same weights as the model"):
        Scorer(store, models, models.base(""), copied)


def test_nobody_is_advised_to_ask_former_checkpoints_of_a_folder(
    command: Callable[..., Result], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_COMMITTEE", "checkpoints")
    assert command(str(folder), "--out", "order.csv").exit_code == 0, "a service's own may stand in .env"
    for words in (["--acquisition", "vote_entropy"], ["--committee", "other"]):
        done = command(str(folder), "--out", "order.csv", *words)
        assert done.exit_code == 2
        assert "checkpoints" not in done.output


def test_former_checkpoints_that_a_variable_names_are_left_out_with_a_note(
    command: Callable[..., Result], folder: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_COMMITTEE", "flip,checkpoints")
    told = "HARDFIRST_COMMITTEE names 'checkpoints', which only a project has: they are not asked here"
    done = command(str(folder), "--out", "order.csv")
    assert done.exit_code == 0, done.output
    assert done.stderr.count(f"note: {told}") == 1
    assert told not in done.stdout
    assert {(views, members) for _, views, members, _ in models.asked} == {(("flip",), 0)}
    assert json.loads(command(str(folder), "--out", "order.csv", "--json").stdout)["notes"] == [told]
    typed = command(str(folder), "--out", "order.csv", "--committee", "flip")
    assert "HARDFIRST_COMMITTEE" not in typed.output


def test_a_cold_start_is_told_in_the_words_that_were_typed(
    command: Callable[..., Result], folder: Path, models: FakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.usable = False
    cold = replace(models.base(""), reason="HARDFIRST_MODEL is yolo11n.yaml: a network without knowledge")
    monkeypatch.setattr(command_line, "open_model", lambda _settings: (models, cold))
    typed = command(str(folder), "--out", "order.csv", "--model", "yolo11n.yaml")
    assert "--model is yolo11n.yaml: a network without knowledge" in typed.output
    assert "HARDFIRST_MODEL" not in typed.output
    assert "HARDFIRST_MODEL is yolo11n.yaml" in command(str(folder), "--out", "order.csv").output
