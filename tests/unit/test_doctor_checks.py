"""The doctor's own checks: everything well is ok, and each planted problem is found with its fix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from common.config import Settings
from common.doctor import facts as gathering
from common.doctor import project_checks, service_checks
from common.doctor.facts import Home
from common.doctor.findings import of_error, parted
from common.doctor.reach import Reached, address, clock, is_private
from common.doctor.together import LateError, together
from common.errors import PlatformError
from common.ports import Finding
from common.store.look import Pulse, Seen
from common.store.rounds import RoundRow
from common.worker import identity, is_gone
from common.yolo.look import Machine
from tests.unit.doctor_facts import BASE, MACHINE, NOW, OURS, REFUSED, facts, project, row

PAIRED = Machine("2.9.0+cu130", "13.0", error="RuntimeError: operator torchvision::nms does not exist", gpu=True)
NO_CUDA = Machine("2.9.0+cpu", "", "cpu", gpu=True, weights=MACHINE.weights)
OLD_DRIVER = replace(NO_CUDA, torch="2.9.0+cu130", cuda="13.0")
NO_DEVICE = Machine("2.9.0+cpu", error="HARDFIRST_DEVICE is '1', but this machine has auto, cpu", gpu=True)
NOT_SAFE = replace(MACHINE, weights={str(BASE): f"{BASE} carries more than weights (it could run code): refused"})
BROKEN = Seen("broken", "file is not a database")
NEWER = Seen("new", "its schema is '0009', this hardfirst's '0003'")


def service(folder: Path, name: str, **changes: Any) -> Finding:
    return service_checks.CHECKS[name](facts(folder, **changes))


def of_project(tmp_path: Path, name: str, **changes: Any) -> Finding:
    weights = tmp_path / "best.pt"
    weights.touch()
    seen = facts(tmp_path, machine=replace(MACHINE, weights={str(weights): ("cat", "dog")}))
    return project_checks.CHECKS[name](seen, project(weights, **changes))


def test_a_healthy_service_has_only_findings_that_are_ok(tmp_path: Path) -> None:
    found = [check(facts(tmp_path)) for check in service_checks.CHECKS.values()]
    assert [f.name for f in found] == list(service_checks.CHECKS)
    assert {f.state for f in found} == {"ok"}
    assert [f.fix for f in found] == [""] * len(found)


@pytest.mark.parametrize(
    ("name", "state", "changes", "evidence", "fix"),
    [
        ("settings", "problem", {"complaint": "HARDFIRST_X is 1: name 2"}, "HARDFIRST_X is 1", "name 2"),
        (
            "home",
            "problem",
            {"home": Home(True, "Permission denied", 2**40, 0o600)},
            "cannot be written",
            "HARDFIRST_HOME",
        ),
        ("disk", "warning", {"home": Home(True, "", 2**31, 0o600)}, "2.0 GB are free", "HARDFIRST_MEDIA_CACHE_GB"),
        ("disk", "problem", {"home": Home(True, "", 2**20, 0o600)}, "0.0 GB are free", "free some space"),
        ("database", "problem", {"database": NEWER}, "a newer hardfirst wrote it", "install the newer"),
        ("database", "problem", {"database": BROKEN}, "not a database", "restore a copy"),
        (
            "database",
            "problem",
            {"database": Seen("locked", "inbox.db: locked")},
            "nobody can write",
            "stop what holds it",
        ),
        ("database", "warning", {"database": Seen("old", "its schema is '0001'")}, "'0001'", "hardfirst serve"),
        ("webhook secret", "warning", {"home": Home(True, "", 2**40, 0o644)}, "mode 644", "chmod 600"),
        ("service", "problem", {"here": REFUSED}, "nothing answers at port 9090", "hardfirst serve"),
        ("service", "problem", {"here": Reached(401)}, "user name and password", "BASIC_AUTH_USER"),
        ("service", "problem", {"here": Reached(200, "<html>")}, "another program", "HARDFIRST_PORT"),
        ("public address", "problem", {"outside": REFUSED}, "does not lead to this service", "HARDFIRST_URL"),
        ("torch", "problem", {"machine": Machine(error="no such module")}, "torch is not there", "make install"),
        ("torch", "problem", {"machine": PAIRED}, "torchvision::nms", "as a pair"),
        ("torch", "problem", {"machine": NO_CUDA}, "built without CUDA", "TORCH=pypi"),
        ("torch", "problem", {"machine": OLD_DRIVER}, "driver is too old", "CUDA 13.0"),
        (
            "torch",
            "problem",
            {"machine": NO_DEVICE},
            "this machine has auto, cpu",
            "one of those, or install torch with",
        ),
        ("model", "warning", {"base": None}, "downloaded at its first use", "put yolo11n.pt into"),
        ("model", "problem", {"machine": NOT_SAFE}, "could run code", "HARDFIRST_MODEL"),
        ("model", "not applicable", {"machine": PAIRED}, "torch does not work", ""),
    ],
)
def test_a_planted_problem_of_the_service_is_found_with_its_fix(
    tmp_path: Path, name: str, state: str, changes: dict[str, Any], evidence: str, fix: str
) -> None:
    found = service(tmp_path, name, **changes)
    assert (found.name, found.state) == (name, state)
    assert evidence in found.evidence
    assert fix in found.fix


def test_a_model_that_nobody_can_download_is_a_problem(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, home=tmp_path, model="weights/mine.pt")
    found = service(tmp_path, "model", base=None, settings=settings)
    assert (found.state, "'weights/mine.pt'" in found.evidence) == ("problem", True)


def test_a_secret_that_is_gone_is_a_problem_only_once_a_project_is_connected(tmp_path: Path) -> None:
    gone = Home(True, "", 2**40, None)
    assert service(tmp_path, "webhook secret", home=gone).state == "ok"
    assert service(tmp_path, "webhook secret", home=gone, projects=(project(BASE),)).state == "problem"


def test_the_password_in_a_database_url_is_never_shown(tmp_path: Path) -> None:
    url = "postgresql+psycopg://ann:s3sam@db/x"
    said = Seen("broken", f"cannot connect to {url}: password s3sam is wrong")
    found = service(tmp_path, "database", database=said, settings=Settings(_env_file=None, database_url=url))
    assert "s3sam" not in found.evidence + found.fix


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"basic_auth_user": "ann"}, "BASIC_AUTH_PASS is not set"),
        ({"basic_auth_pass": SecretStr("b4sic")}, "BASIC_AUTH_USER is not set"),
        ({"strategy": "best"}, "HARDFIRST_STRATEGY is 'best'"),
        ({"host": "0.0.0.0"}, "nothing protects the service"),  # noqa: S104
        ({"allow_hosts": ("http://x/y",)}, "HARDFIRST_ALLOW_HOSTS"),
    ],
)
def test_settings_that_serve_would_refuse_are_found(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in gathering.complaint(Settings(_env_file=None, home=tmp_path, **changes))


def test_a_home_that_is_a_file_cannot_be_written_and_looking_makes_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert gathering.home_of(Settings(_env_file=None, home=tmp_path / "file" / "home")).problem.endswith("is a file")
    seen = gathering.home_of(Settings(_env_file=None, home=tmp_path / "new"))
    assert (seen.problem, seen.there, (tmp_path / "new").exists()) == ("", False, False)


# --- of a project ----------------------------------------------------------------------------------------


def test_a_healthy_project_has_only_findings_that_are_ok(tmp_path: Path) -> None:
    done = RoundRow(1, "fake:1", 3, "done", 1, 40, "", "f", 1, 0, {}, "", "promoted", {}, {}, NOW, NOW)
    found = [of_project(tmp_path, name, round=done) for name in project_checks.CHECKS]
    assert {f.name: f.state for f in found} == dict.fromkeys(project_checks.CHECKS, "ok")


FAILED = RoundRow(1, "fake:1", 3, "failed", 1, 40, "", "/r/3", 1, 0, {}, "out of memory", "", {}, {}, NOW, NOW)
UNHEARD = Pulse("here:77:1", NOW + 500, event=None, answer=NOW - 900, recorded=NOW - 700)
STUCK = Pulse("here:77:1", NOW + 500, waiting=7, oldest=NOW - 3600)
BIRDS = row(spec=replace(row().spec, classes=(*row().spec.classes, replace(row().spec.classes[0], name="bird"))))


@pytest.mark.parametrize(
    ("name", "state", "changes", "evidence", "fix"),
    [
        ("project", "problem", {"row": row(state="stopped", reason="off: switch it on")}, "stopped: off", "switch it"),
        ("project", "problem", {"row": row(state="asked", asked=NOW - 900)}, "not connected", "hardfirst connect fake"),
        ("project", "warning", {"row": row(reason="no answer: start it")}, "no answer", "start it"),
        ("worker", "problem", {"pulse": Pulse()}, "nobody works", "hardfirst serve"),
        ("worker", "problem", {"holder_gone": True}, "process 77) has died", "hardfirst serve"),
        ("worker", "problem", {"pulse": Pulse("far:8:1", NOW - 90)}, "on far stopped", "hardfirst serve"),
        ("inbox", "problem", {"pulse": STUCK}, "7 events wait, the oldest for 60 minutes", "worker"),
        ("events", "problem", {"pulse": UNHEARD}, "without an event", "SSRF_PROTECTION_ENABLED=false"),
        ("last round", "problem", {"round": FAILED}, "out of memory", "hardfirst train --project fake:1"),
        ("serving model", "problem", {"weights": Path("/gone/x.pt")}, "is gone", "rollback --project fake:1"),
        ("labels", "warning", {"row": BIRDS}, "1 of the project's labels: bird", "the next round learns"),
        ("image hosts", "problem", {"hosts": {"cdn.example": 40}}, "cdn.example (40)", "HARDFIRST_ALLOW_HOSTS=cdn"),
        ("images", "problem", {"image": "7: the server says 404: upload it again"}, "404", "upload it again"),
        ("images", "warning", {"counts": {"samples": 9, "unreadable": 2}, "unreadable": ("4: 0",)}, "4: 0", "right"),
    ],
)  # fmt: skip
def test_a_planted_problem_of_a_project_is_found_with_its_fix(
    tmp_path: Path, name: str, state: str, changes: dict[str, Any], evidence: str, fix: str
) -> None:
    found = of_project(tmp_path, name, **changes)
    assert (found.state, evidence in found.evidence, fix in found.fix) == (state, True, True), found


def test_a_model_path_that_the_folder_lacks_is_named(tmp_path: Path) -> None:
    wanted = row(spec=replace(row().spec, model_path="mine.pt"))
    assert "'mine.pt'" in of_project(tmp_path, "serving model", row=wanted, weights=None).evidence


def test_findings_of_a_project_say_whose_they_are(tmp_path: Path) -> None:
    assert {f.about for f in project_checks.of_project(facts(tmp_path), project(BASE))} == {"fake:1"}


def test_a_worker_that_died_on_this_machine_is_known_and_one_elsewhere_is_not() -> None:
    host, pid, started = identity().rsplit(":", 2)
    assert not is_gone(identity())
    assert is_gone(f"{host}:{pid}:{int(started) - 5}")
    assert not is_gone("elsewhere:1:1")


# --- helpers ---------------------------------------------------------------------------------------------


def test_a_look_that_hangs_is_late_and_the_others_answer() -> None:
    import threading

    forever = threading.Event()
    found = together({"slow": forever.wait, "quick": lambda: 4, "bad": lambda: 1 // 0}, 0.2)
    forever.set()
    assert found["quick"] == 4
    assert isinstance(found["slow"], LateError)
    assert isinstance(found["bad"], ZeroDivisionError)


def test_an_error_of_ours_gives_evidence_and_fix() -> None:
    assert parted("a at http://x:1 is off: start it") == ("a at http://x:1 is off", "start it")
    found = of_error("address", PlatformError("x is off: start it"))
    assert (found.state, found.evidence, found.fix) == ("problem", "x is off", "start it")


@pytest.mark.parametrize(("seconds", "state"), [(0.0, "ok"), (59, "ok"), (-400, "warning"), (None, "not applicable")])
def test_clocks_that_differ_are_said(seconds: float | None, state: str) -> None:
    assert clock(Reached(200, "", seconds)).state == state


def test_a_refused_connection_to_loopback_is_explained_inside_a_container() -> None:
    known = {"good": False, "container": True}
    inside = address("Studio", "STUDIO_URL", "http://localhost:8080", REFUSED, **known)
    outside = address("Studio", "STUDIO_URL", "http://localhost:8080", REFUSED, good=False, container=False)
    other = address("Studio", "STUDIO_URL", "http://u:s3cret@studio:8080", Reached(200, "<html>"), **known)
    assert "host.docker.internal" in inside.fix
    assert outside.fix == "start it, or correct STUDIO_URL"
    assert "does not answer like Studio" in other.evidence
    assert "s3cret" not in other.evidence
    assert address("Studio", "STUDIO_URL", "http://x", OURS, good=True, container=True).state == "ok"


@pytest.mark.parametrize(
    ("host", "private"), [("127.0.0.1", True), ("10.1.2.3", True), ("8.8.8.8", False), ("::1", True)]
)
def test_private_addresses_are_known(host: str, private: bool) -> None:
    assert is_private(host) is private
