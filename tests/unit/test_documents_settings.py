"""docs/settings.md is what `hardfirst settings --markdown` prints, and that is what the code takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from common.cli import main
from common.config import PROJECT_FIELDS, Settings, load, variable
from common.errors import SettingError
from common.settings_page import THEMES, allowed, by_theme, page
from tests.test_docs import table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
HEADINGS = list(THEMES.values())


def rows() -> list[list[str]]:
    return [row for heading in HEADINGS for row in table(PAGE.read_text(), heading)]


def test_the_page_is_what_the_command_prints() -> None:
    """`hardfirst settings --markdown > docs/settings.md` makes it."""
    printed = CliRunner().invoke(main, ["settings", "--markdown"]).output
    assert printed == page()
    assert PAGE.read_text() == printed, "run: hardfirst settings --markdown > docs/settings.md"


def test_every_setting_has_one_row_in_one_theme() -> None:
    assert [row[0] for row in rows()] == [variable(name) for name in Settings.model_fields]
    assert [heading for heading, _ in by_theme(Settings.model_fields)] == HEADINGS


def test_what_a_project_may_have_of_its_own_is_marked() -> None:
    assert {row[0] for row in rows() if row[3] == "yes"} == {variable(name) for name in PROJECT_FIELDS}
    assert {row[3] for row in rows()} == {"yes", ""}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("port", "whole number, 1 to 65535"),
        ("imgsz", "whole number, 32 to 4096, in steps of 32"),
        ("pause_s", "number, 0 or more"),
        ("reconcile_s", "number, above 0"),
        ("validation_share", "number, 0 to under 1"),
        ("seed", "whole number, 0 or more"),
        ("engine", "`auto`, `torch`, `openvino`"),
        ("read_only", "`1`, `0`"),
        ("basic_auth_pass", "secret text"),
        ("allow_hosts", "list, separated by commas"),
        ("home", "path"),
        ("model_root", "path"),
    ],
)
def test_what_is_allowed_is_said_in_words(name: str, words: str) -> None:
    assert allowed(name) == words


@pytest.mark.parametrize(("name", "wrong"), [("port", 0), ("imgsz", 33), ("reconcile_s", 0), ("validation_share", 1)])
def test_what_the_page_does_not_allow_is_refused(name: str, wrong: float) -> None:
    with pytest.raises(SettingError, match=variable(name)):
        load(**{name: wrong})


def test_a_setting_before_the_first_theme_would_be_seen() -> None:
    assert by_theme(["new", "label_studio_url", "other"]) == [
        ("General", ["new"]),
        ("Label Studio", ["label_studio_url", "other"]),
    ]
