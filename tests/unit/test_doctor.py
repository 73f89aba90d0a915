"""`hardfirst doctor` as people run it: exit codes, JSON, --fix; and that looking changes nothing."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from common import compose
from common.cli import main
from common.config import Settings
from common.doctor import facts as gathering
from common.doctor.findings import ok, problem
from common.doctor.reach import Reached
from common.domain import ClassMapping, ProjectSpec
from common.errors import PlatformUnreachableError, SettingError
from common.ports import CheckedPlugin, Drift, Finding, Patient
from common.store import Store, open_store
from common.store.look import look
from common.worker import identity
from tests.fakes import FakePlatform
from tests.unit.doctor_facts import MACHINE, OURS, REFUSED

KEY = "fake:1"
SECRETS = ("tok3n-of-label-studio", "b4sic-password", "we8hook-secret")


class Clinic:
    """The platform 'fake' whose one project drifts, and is healed by its port."""

    name = "fake"
    options = ()

    def __init__(self) -> None:
        self.platform = FakePlatform(tasks={})
        self.error: Exception | None = None
        self.patients: list[Patient] = []

    def open(self, project: str, settings: Settings, state: dict[str, Any], save: Any, memory: Any) -> FakePlatform:
        self.platform.state = state
        return self.platform

    def checks(self, settings: Settings, patients: list[Patient]) -> list[Finding]:
        self.patients = list(patients)
        if self.error:
            raise self.error
        found = [ok("address", "it answers")]
        for p in patients:
            wrong = [d for d in self.platform.drifts if not d.healed]
            told = (
                problem("webhook", wrong[0].what, "connect again", p.project, lambda p=p: self._heal(p))
                if wrong
                else None
            )
            found.append(told or ok("webhook", "there", p.project))
        return found

    def _heal(self, p: Patient) -> str:
        with p.port() as port:
            port.drift(p.version)
            self.platform.drifts = []
        return "made anew"


@pytest.fixture
def clinic(monkeypatch: pytest.MonkeyPatch) -> Clinic:
    """The platform, a service that answers, and a GPU."""
    made = Clinic()
    monkeypatch.setattr(compose, "plugins", lambda: {"fake": made})
    monkeypatch.setattr(gathering, "service", lambda _settings: (OURS, OURS))
    monkeypatch.setattr(gathering, "look_at_machine", _machine)
    return made


def _machine(device: str, paths: list[Path], limit_s: float) -> Any:
    return replace(MACHINE, weights={str(p): ("cat", "dog") for p in paths})


@pytest.fixture
def home(clean_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean environment with secrets, weights in HOME."""
    (clean_home / "models").mkdir(parents=True)
    (clean_home / "models" / "yolo11n.pt").write_bytes(b"weights")
    known = {"LABEL_STUDIO_API_KEY": SECRETS[0], "BASIC_AUTH_USER": "ann", "BASIC_AUTH_PASS": SECRETS[1]}
    for name, value in {**known, "HARDFIRST_WEBHOOK_SECRET": SECRETS[2]}.items():
        monkeypatch.setenv(name, value)
    return clean_home


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    """One active project that a living worker holds."""
    made = open_store(Settings(_env_file=None, home=home).database, home)
    made.projects.ask("fake", "1")
    made.projects.update(KEY, state="active", spec=ProjectSpec("Pets", (ClassMapping("cat"),)))
    made.projects.lease(KEY, identity(), 600)
    yield made
    made.close()


def run(*arguments: str, code: int) -> Result:
    found = CliRunner().invoke(main, ["doctor", *arguments])
    assert found.exit_code == code, found.output
    assert not any(secret in found.output for secret in SECRETS)
    return found


def report(*arguments: str, code: int) -> dict[str, tuple[str, str]]:
    """'about/name' -> (state, evidence)."""
    found = json.loads(run(*arguments, "--json", code=code).stdout)
    return {f"{f['about']}/{f['name']}": (f["state"], f["evidence"]) for f in found["findings"]}


def bad(found: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (state, _) in found.items() if state in ("problem", "warning")]


def fingerprints(folder: Path) -> dict[str, str]:
    """What is on the disk, but for SQLite's index of its log, which readers write."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.endswith("-shm")]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.usefixtures("clinic")
def test_a_healthy_service_is_all_ok_with_code_zero(store: Store) -> None:
    found = report(code=0)
    assert bad(found) == []
    assert found["fake:1/worker"][0] == found["fake:1/webhook"][0] == found["/model"][0] == "ok"
    assert "0 problem" in run(code=0).stdout


def test_looking_changes_nothing(store: Store, home: Path, clinic: Clinic) -> None:
    clinic.platform.drifts = [Drift("no webhook", healed=False)]
    before, rows = fingerprints(home), store.projects.all()
    run(code=1)
    assert (fingerprints(home), store.projects.all()) == (before, rows)
    assert "drift" not in clinic.platform.calls


@pytest.mark.usefixtures("clinic")
def test_a_home_that_is_not_there_is_not_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDFIRST_HOME", str(home / "new"))
    report(code=0)
    assert not (home / "new").exists()


def test_fix_mends_says_so_and_a_second_run_is_clean(store: Store, clinic: Clinic) -> None:
    clinic.platform.drifts = [Drift("no webhook", healed=False)]
    assert bad(report(code=1)) == ["fake:1/webhook"]
    assert "fixed fake:1, webhook: made anew" in run("--fix", code=0).stdout
    assert bad(report(code=0)) == []
    row = store.projects.get(KEY)
    assert row is not None
    assert (row.retry_at, row.reconciled) == (None, None)


@pytest.mark.usefixtures("clinic")
def test_a_secret_that_others_can_read_is_closed_by_fix(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARDFIRST_WEBHOOK_SECRET")
    path = home / "webhook-secret"
    path.write_text("we8hook-secret")
    path.chmod(0o644)
    assert bad(report(code=0)) == ["/webhook secret"]
    assert f"{path} can now be read by its owner alone" in run("--fix", code=0).stdout
    assert bad(report(code=0)) == []


@pytest.mark.usefixtures("store")
def test_a_service_that_is_down_is_a_finding(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "service", lambda _settings: (REFUSED, Reached(error="refused")))
    assert bad(report(code=1)) == ["/service"]
    assert [p.answers for p in clinic.patients] == [False]


@pytest.mark.usefixtures("store")
def test_a_platform_that_is_down_or_not_set_is_a_finding(clinic: Clinic) -> None:
    clinic.error = PlatformUnreachableError("the platform is off: start it")
    assert report(code=1)["fake/address"] == ("problem", "the platform is off")
    clinic.error = SettingError("FAKE_URL is not set: give it")
    assert report(code=1)["fake/address"] == ("problem", "FAKE_URL is not set")
    clinic.error = RuntimeError("a bug")
    assert report(code=1)["fake/address"][0] == "problem"


@pytest.mark.usefixtures("home")
def test_without_any_platform_there_is_nothing_to_do(clinic: Clinic) -> None:
    clinic.error = SettingError("FAKE_URL is not set: give it")
    assert bad(report(code=1)) == ["/platforms"]
    assert bad(report("fake", code=1)) == ["fake/address"]


@pytest.mark.usefixtures("home")
def test_a_project_that_is_not_connected_can_be_looked_at(clinic: Clinic) -> None:
    found = report("--project", "fake:9", code=0)
    assert found["fake:9/webhook"][0] == "ok"
    assert [(p.project, p.connected) for p in clinic.patients] == [("9", False)]


@pytest.mark.usefixtures("store", "clinic")
@pytest.mark.parametrize("wrong", [["nope"], ["--project", "1"], ["--project", "nope:1"], ["--what"]])
def test_wrong_usage_is_code_two(wrong: list[str]) -> None:
    run(*wrong, code=2)


@pytest.mark.usefixtures("home")
def test_a_setting_that_cannot_be_read_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDFIRST_PORT", "abc")
    assert report(code=1) == {"/settings": ("problem", "HARDFIRST_PORT is 'abc'")}


# --- the database ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("clinic")
def test_a_locked_database_is_said_within_seconds_and_still_read(store: Store, home: Path) -> None:
    with sqlite3.connect(home / "hardfirst.db", isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        found = report(code=1)
        writer.execute("ROLLBACK")
    writer.close()
    assert found["/database"][0] == "problem"
    assert "locked" in found["/database"][1]
    assert found["fake:1/worker"][0] == "ok"


def revise(home: Path, revision: str) -> None:
    with sqlite3.connect(home / "hardfirst.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", [revision])
    raw.close()


@pytest.mark.usefixtures("clinic")
def test_a_database_of_a_newer_hardfirst_is_said_and_left_alone(store: Store, home: Path) -> None:
    revise(home, "9999")
    assert "'9999'" in report(code=1)["/database"][1]
    run("--fix", code=1)


def test_an_older_database_is_not_migrated_by_looking(store: Store, home: Path) -> None:
    revise(home, "0001")
    with look(f"sqlite:///{home / 'hardfirst.db'}", home) as seen:
        assert (seen.state, seen.store) == ("old", None)
    assert list(home.glob("*.copy")) == []


@pytest.mark.parametrize(
    "url", ["nonsense", "oracle://u:s3sam@h/x", "postgresql+psycopg://u:s3sam@127.0.0.1:9/x", "sqlite:////proc/x.db"]
)
@pytest.mark.usefixtures("home", "clinic")
def test_a_database_that_cannot_be_opened_is_said_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARDFIRST_DATABASE_URL", url)
    found = run("--json", code=0 if url.startswith("sqlite") else 1)
    assert "s3sam" not in found.output


@pytest.mark.usefixtures("clinic")
def test_a_file_that_is_no_database_is_said(home: Path) -> None:
    (home / "hardfirst.db").write_bytes(b"not a database" * 100)
    assert report(code=1)["/database"] == ("problem", "it cannot be opened (file is not a database)")


def test_the_clinic_is_what_the_port_says(clinic: Clinic) -> None:
    assert isinstance(clinic, CheckedPlugin)
    for plugin in ("label-studio", "cvat"):
        assert isinstance({e.name: e for e in _entries()}[plugin].load(), CheckedPlugin)


def _entries() -> Any:
    from importlib.metadata import entry_points

    return entry_points(group=compose.GROUP)
