"""The documentation says what is true: settings, commands and files exist as it names them."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path

import click
import pytest

from common.acquisition import ACQUISITIONS, AGGREGATIONS, aggregation_options
from common.cli import main
from common.config import Settings, variable
from common.experiments.backtest.show import show
from common.loop.committee import CHECKPOINTS
from common.ports import VIEWS
from common.strategies import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
STRATEGIES = ROOT / "docs" / "strategies.md"
DOCTOR = ("the service", "a project", "Label Studio", "CVAT")
DOCS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
MAKE = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head; back quotes taken off."""
    section = re.search(rf"^#+ {heading}\s*$(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ValueError(f"no heading {heading!r}")
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    rows = [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return rows[2:]


def commands(text: str) -> list[list[str]]:
    """The words of every `hardfirst ...` in code, inline or in a block."""
    blocks = re.findall(r"```.*?\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [*inline, *(line for block in blocks for line in block.replace("\\\n", " ").splitlines())]
    found = (re.match(r"(?:\$ )?(?:\.venv/bin/)?hardfirst((?: [\w./:=-]+)*)", line.strip()) for line in lines)
    return [m[1].split() for m in found if m]


def missing_files(text: str, folder: Path) -> list[str]:
    """Relative links and file names in back quotes that lead nowhere."""
    linked = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.(?:py|md|toml|yaml|txt))`", text)
    here = [n for n in linked if "://" not in n and not n.startswith("mailto:")]
    ours = [n for n in named if n.split("/")[0] in {p.name for p in ROOT.iterdir()} or "/" not in n]
    return [n for n in here if not (folder / n).exists()] + [
        n for n in ours if not ((ROOT / n).exists() or (folder / n).exists() or any(ROOT.glob(f"*/{n}")))
    ]


LONGEST = 160
"""Lines of the README: what a reader takes in before trying; the rest is in docs/."""


def test_the_readme_is_short_and_leads_to_every_page_of_the_documentation() -> None:
    text, index = README.read_text(), (ROOT / "docs" / "index.md").read_text()
    pages = sorted(p.name for p in (ROOT / "docs").glob("*.md") if p.name != "index.md")
    assert len(text.splitlines()) <= LONGEST
    assert [name for name in pages if f"](docs/{name})" not in text] == []
    assert [name for name in pages if f"]({name})" not in index] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_every_command_in_the_documentation_exists(path: Path) -> None:
    assert wrong_commands(path.read_text()) == []


def wrong_commands(text: str) -> list[str]:
    return [why for words in commands(text) if words and (why := _wrong(words))]


def _wrong(words: list[str]) -> str:
    options = {o for p in main.params for o in p.opts} | {"--help", "-h"}
    if words[0].isupper():  # COMMAND stands for any
        return ""
    if words[0] not in main.commands:
        return "" if words[0] in options else f"hardfirst {words[0]}"
    command = main.commands[words[0]]
    if isinstance(command, click.Group) and words[1:]:
        command = command.get_command(click.Context(command), words[1]) or command
    known = {o for p in command.params for o in p.opts} | {"--help", "-h"}
    unknown = [w for w in words[1:] if w.startswith("--") and w.partition("=")[0] not in known]
    return f"hardfirst {' '.join(words)}: {unknown[0]}" if unknown else ""


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_the_documentation_names_no_file_that_is_not_there(path: Path) -> None:
    assert missing_files(path.read_text(), path.parent) == []


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_the_documentation_names_no_setting_that_is_not_there(path: Path) -> None:
    known = {variable(f) for f in Settings.model_fields} | {"HARDFIRST_SHARED", "HARDFIRST_TEST_POSTGRES"}
    assert set(re.findall(r"\bHARDFIRST_[A-Z_]+[A-Z]\b", path.read_text())) - known == set()


@pytest.mark.parametrize("path", DOCS, ids=lambda p: p.name)
def test_every_make_target_in_the_documentation_exists(path: Path) -> None:
    named = re.findall(r"(?:^|`)make ([a-z][a-z0-9-]*)", path.read_text(), re.MULTILINE)
    assert set(named) - MAKE == set()


def test_every_acquisition_function_and_aggregation_has_a_row() -> None:
    text = STRATEGIES.read_text()
    assert sorted(row[0] for row in table(text, "Acquisition functions")) == sorted(ACQUISITIONS)
    assert sorted(row[0] for row in table(text, "Aggregations")) == sorted(AGGREGATIONS)
    for name in AGGREGATIONS:
        for option, default in aggregation_options(name).items():
            assert re.search(rf"`{option}` = {f'{default:g}'.removeprefix('0')}\b", text)


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_strategy_has_a_section_with_its_options_and_their_defaults(name: str) -> None:
    wanted_rows = [[f.name, str(f.default)] for f in fields(REGISTRY[name].options)]
    assert sorted(row[:2] for row in table(STRATEGIES.read_text(), name)) == sorted(wanted_rows)


def test_every_view_of_the_committee_and_every_step_of_hybrid_is_there() -> None:
    text = STRATEGIES.read_text()
    assert {row[0] for row in table(text, "Committee")} >= {*VIEWS, CHECKPOINTS}
    steps = table(text, "The eight steps of hybrid")
    assert [row[0] for row in steps] == [str(n) for n in range(1, 9)]
    switches = set(re.findall(r"(\w+)=", " ".join(row[2] for row in steps)))
    assert switches - {"slice_share"} <= {f.name for f in fields(REGISTRY["hybrid"].options)}


def test_the_table_of_checks_is_what_the_doctor_looks_at() -> None:
    from common.doctor import project_checks, service_checks
    from cvat_adapter import checks as cvat
    from ls_backend import checks as label_studio

    text = (ROOT / "docs" / "doctor.md").read_text()
    listed = {name: [row[0] for row in table(text, f"Checks of {name}")] for name in DOCTOR}
    wanted_checks = (service_checks.CHECKS, project_checks.CHECKS)
    platforms = [[*p.FIRST, *p.CHECKS] for p in (label_studio, cvat)]
    assert list(listed.values()) == [*map(list, wanted_checks), *platforms]


def test_these_tests_would_find_what_is_wrong() -> None:
    text = "`hardfirst status --jsonn` `hardfirst conect x`\n```\n$ hardfirst train --project label-studio:1\n```\n"
    assert wrong_commands(text) == ["hardfirst status --jsonn: --jsonn", "hardfirst conect"]
    lost = "[a](docs/nothing.md) [b](https://example.org/x.md) `common/nowhere.py` `absent.py` `common/cli.py`"
    assert missing_files(lost, ROOT) == ["docs/nothing.md", "common/nowhere.py", "absent.py"]
    with pytest.raises(ValueError, match="no heading"):
        table("# Else", "Settings")


def test_the_table_of_rounds_is_what_was_played() -> None:
    """`python -m bench.rounds --report` prints it."""
    from bench.rounds import table as played

    assert played().strip() in (ROOT / "docs" / "rounds.md").read_text()


REPLAYS = sorted(p.parent for p in (ROOT / "docs" / "label-efficiency").glob("*/settings.json"))


@pytest.mark.parametrize("folder", REPLAYS, ids=lambda p: p.name)
def test_a_committed_report_is_what_its_units_say(folder: Path, tmp_path: Path) -> None:
    """`hardfirst backtest --report` makes it."""
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    (copy / "report.md").unlink()
    (copy / "report.csv").unlink()
    show(copy)
    for name in ("report.md", "report.csv"):
        assert (copy / name).read_text() == (folder / name).read_text(), name


def test_the_table_of_all_replays_is_what_their_units_say() -> None:
    """`python -m bench.pooled` makes it."""
    from bench import pooled

    assert pooled.OUT.read_text() == pooled.text()


def test_organization_is_spelled_in_one_way_in_what_users_read() -> None:
    adapter = sorted((ROOT / "cvat_adapter").glob("*.py"))
    other = re.compile("organi" + "sation", re.IGNORECASE)
    assert [path.name for path in (*DOCS, *adapter) if other.search(path.read_text())] == []
