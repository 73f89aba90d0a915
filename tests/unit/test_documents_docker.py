"""The image and compose.yaml: what the specification allows, what the code reads, what docs/docker.md says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from common.config import Settings, variable
from common.serve import GRACE_S

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
OURS: dict[str, Any] = COMPOSE["services"]["hardfirst"]
COPIED = [path for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for path in line.split()]


# --- compose ---------------------------------------------------------------------------------------------


def test_compose_is_what_the_compose_specification_allows() -> None:
    compose = PyCompose.from_yaml(TEXT)
    compose.validate()
    assert compose.service_names() == ["label-studio", "hardfirst", "postgresql"]


def test_compose_with_the_gpu_switched_on_is_allowed_too() -> None:
    text = re.sub(
        r"^    # (deploy:|  resources:|    reservations:|      devices:)", r"    \1", TEXT, flags=re.MULTILINE
    )
    wanted = yaml.safe_load(text)["services"]["hardfirst"]["deploy"]["resources"]["reservations"]["devices"]
    assert wanted == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    PyCompose.from_yaml(text).validate()


@pytest.mark.parametrize(
    ("right", "wrong"), [("restart:", "restrat:"), ("service_healthy", "healthy"), ("shm_size: 1gb", "shm_size: x")]
)
def test_the_check_of_compose_finds_a_mistake(right: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="services"):
        PyCompose.from_yaml(TEXT.replace(right, wrong))


def test_every_variable_of_our_service_is_a_setting_and_unset_ones_keep_their_default() -> None:
    assert set(OURS["environment"]) <= {variable(name) for name in Settings.model_fields}
    optional = [name for name, value in OURS["environment"].items() if value is None]
    # Given but empty, HARDFIRST_BASE_PATH would mean "no path" instead of that of HARDFIRST_URL.
    assert "HARDFIRST_BASE_PATH" in optional
    given = {value for value in OURS["environment"].values() if value is not None}
    assert all(re.fullmatch(r"\$\{[A-Z_]+:[?-].+\}|http://label-studio:8080", value) for value in given)


def test_postgresql_comes_only_when_it_is_asked_for() -> None:
    profiles = {name: service.get("profiles") for name, service in COMPOSE["services"].items()}
    assert profiles == {"label-studio": None, "hardfirst": None, "postgresql": ["postgresql"]}
    assert OURS["depends_on"]["postgresql"] == {"condition": "service_healthy", "required": False}
    (url,) = re.findall(r"HARDFIRST_DATABASE_URL=(\S+)", TEXT)
    server = COMPOSE["services"]["postgresql"]["environment"]
    assert url == f"postgresql+psycopg://{server['POSTGRES_USER']}:THAT-PASSWORD@postgresql/{server['POSTGRES_DB']}"
    assert "EXTRAS=postgresql" in DOCKERFILE


def test_only_this_machine_reaches_the_ports_and_every_volume_is_declared() -> None:
    services = COMPOSE["services"].values()
    assert all(port.startswith("127.0.0.1:") for service in services for port in service.get("ports", ()))
    assert {volume.split(":")[0] for service in services for volume in service["volumes"]} == set(COMPOSE["volumes"])


def test_our_container_can_write_its_data_and_nothing_else_and_has_time_to_end() -> None:
    (volume,) = OURS["volumes"]
    assert volume.endswith(":/data")
    assert f"HARDFIRST_HOME={volume.split(':')[1]}" in DOCKERFILE
    assert (OURS["read_only"], OURS["tmpfs"], OURS["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    assert float(OURS["stop_grace_period"].removesuffix("s")) > GRACE_S


# --- the image -------------------------------------------------------------------------------------------


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves out a path at the top: the last line that fits it counts."""
    left_out = False
    for line in (ROOT / ".dockerignore").read_text().split():
        if fnmatch(path, line.removeprefix("!").removeprefix("**/")):
            left_out = not line.startswith("!")
    return left_out


@pytest.mark.parametrize("path", COPIED)
def test_what_the_image_copies_is_there_and_not_ignored(path: str) -> None:
    assert (ROOT / path).exists()
    assert not ignored(path)


def test_nothing_else_gets_into_the_image() -> None:
    assert {p.name for p in ROOT.iterdir() if not ignored(p.name)} - {"BRIEF.md"} == set(COPIED)


def test_templates_styles_and_scripts_get_into_the_image() -> None:
    web = ROOT / "common/web"
    made_of = [p for folder in ("templates", "static") for p in (web / folder).rglob("*") if p.is_file()]
    left_out = [line[3:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("**/")]
    assert len(made_of) > 10
    assert [p.name for p in made_of for line in left_out if fnmatch(p.name, line)] == []


def test_signals_go_through_tini_to_a_user_of_a_fixed_number() -> None:
    assert 'ENTRYPOINT ["tini", "--"]' in DOCKERFILE
    assert re.search(r"apt-get install .*\btini\b", DOCKERFILE)
    assert "useradd --create-home --uid 10001 hardfirst" in DOCKERFILE
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["hardfirst"]


def health_check() -> list[str]:
    (line,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    return list(json.loads(line))


def test_the_health_check_is_a_program_that_fails_where_nothing_answers() -> None:
    command = health_check()
    assert command[:2] == ["python", "-c"]
    ast.parse(command[2])
    done = subprocess.run(
        [sys.executable, *command[1:]], env={"HARDFIRST_PORT": "1"}, capture_output=True, timeout=20, check=False
    )
    assert done.returncode != 0
