"""Settings per project: its own in the place of the service's; a wrong one is refused with the right ones listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import PROJECT_FIELDS, Settings, for_project
from common.errors import SettingError, UnknownNameError
from common.loop.project_settings import changed, check, differing, options_of, rows
from common.strategies import REGISTRY


def made(folder: Path | None = None, **values: Any) -> Settings:
    return Settings(_env_file=None, home=folder or Path("nowhere"), **values)


def test_without_values_of_its_own_a_project_works_with_the_services() -> None:
    base = made()
    assert for_project(base, {}) is base


def test_its_own_values_stand_in_the_place_of_the_services_and_nothing_else_changes() -> None:
    base = made(imgsz=640, updates=100)
    found = for_project(base, {"imgsz": 320, "committee": ["flip"]})
    assert (found.imgsz, found.committee, found.updates) == (320, ("flip",), 100)
    left = [n for n in Settings.model_fields if n not in ("imgsz", "committee")]
    assert all(getattr(found, n) == getattr(base, n) for n in left)


@given(st.sampled_from(PROJECT_FIELDS))
def test_every_setting_of_a_project_comes_back_from_the_store_as_it_was_typed(name: str) -> None:
    words = {"strategy": "uniform", "acquisition": "margin", "strategy_options": "spread=6", "committee": "half"}
    words |= {"train_from": "champion", "control": "True", "pseudo_labels": "True"}
    shares = dict.fromkeys(("validation_share", "gate_margin", "gate_class_drop", "stop_gain"), "0.25")
    typed = (words | shares | {"pause_s": "64.0"}).get(name, "64")
    assignment = f"option.{typed}" if name == "strategy_options" else f"{name}={typed}"
    own = changed(made(), {}, [assignment], [])
    assert list(own) == [name]
    assert changed(made(), own, [], []) == own
    assert differing(own) == assignment


def test_options_of_the_service_hold_for_its_strategy_only() -> None:
    base = made(strategy_options="spread=6,deficit=false")
    assert options_of(base) == {"spread": 6, "deficit": False}
    assert options_of(for_project(base, {"strategy": "uniform"})) == {}
    own = {"strategy_options": ["spread=3", "top=5"]}
    assert options_of(for_project(base, own)) == {"spread": 3, "deficit": False, "top": 5}


@pytest.mark.parametrize("strategy", list(REGISTRY))
def test_every_strategy_takes_its_own_defaults_as_options(strategy: str) -> None:
    base = made(strategy=strategy)
    typed = [
        f"{r['name']}={r['default']}" for r in rows(base, {}) if "option." in r["name"] and r["default"] is not None
    ]
    own = changed(base, {}, typed, [])
    assert all(r["value"] == r["default"] for r in rows(base, own))


def test_taking_values_back_leaves_nothing_behind() -> None:
    own = changed(made(), {}, ["option.spread=6", "option.top=5", "imgsz=320"], [])
    assert own == {"strategy_options": ["spread=6", "top=5"], "imgsz": 320}
    assert changed(made(), own, [], ["option.spread", "imgsz"]) == {"strategy_options": ["top=5"]}
    assert changed(made(), own, [], ["option.spread", "option.top", "imgsz", "seed"]) == {}


@pytest.mark.parametrize(
    ("typed", "error", "said"),
    [
        ("colour=red", UnknownNameError, r"no setting 'colour'; there are \['strategy', 'acquisition', 'committee'"),
        ("imgsz", SettingError, "'imgsz' is not NAME=VALUE: such as imgsz=VALUE, or --unset imgsz"),
        ("imgsz=33", SettingError, "imgsz is '33': input should be a multiple of 32"),
        ("strategy=best", UnknownNameError, r"strategy is 'best'; there are \['additive'"),
        ("acquisition=x", UnknownNameError, r"acquisition is 'x'; there are \['categorical_entropy'"),
        ("committee=flop", UnknownNameError, r"committee names 'flop'; there are \['flip', 'half', 'heads', 'checkp"),
        ("committee=../a.pt", UnknownNameError, r"committee names '../a.pt'; there are"),
        ("acquisition=consistency", SettingError, "compares with the mirrored image: add flip to HARDFIRST_COMMITTEE"),
        ("acquisition=consensus", SettingError, "needs a committee: set HARDFIRST_COMMITTEE to one or more of"),
        ("option.sprad=6", SettingError, r"names 'sprad', but strategy 'hybrid' has the options \['class_weights'"),
        ("option.spread=x", SettingError, "option spread of strategy 'hybrid' is 'x', but it takes a whole number"),
        ("option.kappa=nan", SettingError, "option kappa of strategy 'hybrid' is 'nan', but it takes a number"),
        ("option.spread=0", SettingError, "options of strategy 'hybrid': spread is 0: a whole number, 1 or more, is"),
        ("option.acquisition=margin", SettingError, "; HARDFIRST_ACQUISITION sets that one"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(typed: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        changed(made(), {}, [typed], [])
    assert "\n" not in str(caught.value)


def test_an_aggregation_that_is_not_there_is_refused_with_the_list() -> None:
    with pytest.raises(UnknownNameError, match=r"option aggregation is 'x'; there are \['max', 'mean_of_n_lowest'"):
        changed(made(strategy="additive"), {}, ["option.aggregation=x"], [])


def test_an_option_that_another_strategy_does_not_have_is_said_when_the_strategy_changes() -> None:
    own = changed(made(), {}, ["option.spread=6"], [])
    with pytest.raises(SettingError, match="names 'spread', but strategy 'uniform' has the options"):
        changed(made(), own, ["strategy=uniform"], [])
    assert changed(made(), own, ["strategy=uniform"], ["option.spread"]) == {"strategy": "uniform"}


@pytest.mark.parametrize("acquisition", ["consistency", "vote_entropy", "consensus"])
def test_what_brings_the_evidence_is_enough(acquisition: str) -> None:
    check(made(acquisition=acquisition, committee="flip"))
    assert changed(made(committee="flip"), {}, [f"acquisition={acquisition}"], []) == {"acquisition": acquisition}


def test_weights_of_the_model_folder_are_members_by_name_and_our_own_are_not_listed(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("mine.pt", f"{'a' * 64}.pt", "notes.txt"):
        (folder / name).touch()
    base = made(tmp_path)
    assert changed(base, {}, ["committee=mine.pt,flip"], []) == {"committee": ["mine.pt", "flip"]}
    with pytest.raises(UnknownNameError, match=r"names 'yours.pt'; .* in .*models: \['mine.pt'\]$"):
        changed(base, {}, ["committee=yours.pt"], [])
