"""docs/troubleshooting.md names checks that the doctor has, and leaves out none that finds something wrong."""

from __future__ import annotations

import re
from pathlib import Path

from common.doctor import project_checks, service_checks
from cvat_adapter import checks as cvat
from ls_backend import checks as label_studio
from tests.test_docs import table

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md").read_text()
HEADINGS: list[str] = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
ROWS = [row for heading in HEADINGS for row in table(PAGE, heading)]
THERE = {
    *service_checks.CHECKS,
    *project_checks.CHECKS,
    *(name for platform in (label_studio, cvat) for name in (*platform.FIRST, *platform.CHECKS)),
}
UNSEEN = {"service", "webhook secret", "project", "server", "network"}
"""Checks whose finding is its own first symptom: what a person sees is the doctor's sentence itself."""


def test_every_check_that_is_named_is_there() -> None:
    assert {row[3] for row in ROWS} - {""} <= THERE


def test_every_check_has_a_symptom_or_is_one() -> None:
    assert {row[3] for row in ROWS} - {""} == THERE - UNSEEN


def test_every_entry_has_a_symptom_a_reason_and_a_fix() -> None:
    assert [row for row in ROWS if len(row) != 4 or not all(row[:3])] == []
    symptoms = [row[0] for row in ROWS]
    assert len(set(symptoms)) == len(symptoms) > 40
