"""What a fresh machine meets first: the licence, the pins, make, the image. Files are read, fakes are run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())

# https://www.gnu.org/licenses/agpl-3.0.txt
AGPL_3 = "0d96a4ff68ad6d4b6f1f30f713b18d5184912ba8dd389f86aa7710db079abcb0"


def pins(name: str) -> dict[str, str]:
    """Distribution name -> the version that a constraints file allows on this machine."""
    lines = (ROOT / name).read_text().splitlines()
    kept = (Requirement(line) for line in lines if line and not line.startswith("#"))
    here = (pin for pin in kept if pin.marker is None or pin.marker.evaluate())
    return {normal(pin.name): str(pin.specifier).removeprefix("==") for pin in here}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def packages() -> list[str]:
    """The top-level packages that the wheel holds."""
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    return sorted({p.parent.name for pattern in patterns for p in ROOT.glob(f"{pattern}/__init__.py")})


def requirements() -> list[str]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]
    return sorted({normal(re.split(r"[\[<>=!~ ;]", line)[0]) for line in wanted})


def test_the_licence_is_the_agpl_to_the_letter() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == AGPL_3
    assert PROJECT["project"]["license"] == "AGPL-3.0-or-later"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]


@pytest.mark.parametrize("name", requirements())
def test_every_requirement_is_pinned(name: str) -> None:
    assert name in pins("constraints.txt")


def test_torch_and_torchvision_are_the_pair_that_is_installed() -> None:
    for name in ("torch", "torchvision"):
        assert pins("constraints.txt")[name] == importlib.metadata.version(name).split("+")[0]


def test_no_pin_belongs_to_one_platform_or_one_build() -> None:
    pinned = pins("constraints.txt")
    assert [version for version in pinned.values() if "+" in version] == []
    bound = [name for name in pinned if re.match(r"triton|cuda-|nvidia-(?!ml-py)", name)]
    assert bound == [], "torch names the exact ones itself, on Linux only"


def test_label_studio_has_one_version_everywhere() -> None:
    version = pins("constraints-label-studio.txt")["label-studio"]
    assert f"LABEL_STUDIO = {version}\n" in (ROOT / "Makefile").read_text()
    assert COMPOSE["services"]["label-studio"]["image"] == f"heartexlabs/label-studio:{version}"


@pytest.mark.parametrize("name", packages())
def test_each_package_imports_and_reaches_the_image(name: str) -> None:
    importlib.import_module(name)
    assert f"COPY {name} ./{name}\n" in DOCKERFILE
    assert re.search(rf"RUN mkdir .*\b{name}\b.*touch .*{name}/__init__.py", DOCKERFILE)
    assert f"!{name}\n" in (ROOT / ".dockerignore").read_text()


def test_every_script_and_platform_of_the_distribution_loads() -> None:
    declared = PROJECT["project"]["entry-points"]["hardfirst.platforms"] | PROJECT["project"]["scripts"]
    for target in declared.values():
        module, name = target.split(":")
        assert getattr(importlib.import_module(module), name) is not None


def test_the_image_installs_by_make_install_and_by_nothing_else() -> None:
    steps = [step for line in DOCKERFILE.splitlines() if line.startswith("RUN ") for step in line[4:].split("&&")]
    words = [shlex.split(step) for step in steps]
    assert {word[0] for word in words} == {"apt-get", "rm", "useradd", "mkdir", "chown", "touch", "make"}
    (made,) = [word for word in words if word[0] == "make"]
    assert made[1] == "install"
    makefile = (ROOT / "Makefile").read_text()
    for variable in (word.split("=")[0] for word in made[2:]):
        assert f"\n{variable} ?=" in makefile
    assert "dev" not in made[3]


def test_the_image_is_not_root_and_says_how_it_is() -> None:
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.M)[-1] == "hardfirst"
    assert re.search(r"^HEALTHCHECK .*/health", DOCKERFILE, re.M)
    assert DOCKERFILE.rstrip().endswith('CMD ["hardfirst", "serve"]')


def test_compose_lets_label_studio_call_us_and_holds_no_secret() -> None:
    label_studio, ours = COMPOSE["services"]["label-studio"], COMPOSE["services"]["hardfirst"]
    assert label_studio["environment"]["ML_BLOCK_LOCAL_IP"] == "false"
    assert label_studio["environment"]["SSRF_PROTECTION_ENABLED"] == "false"
    variables = label_studio["environment"] | ours["environment"]
    secret = [value for name, value in variables.items() if re.search("PASS|USER_TOKEN|KEY", name)]
    assert len(secret) == 4
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value) for value in secret)
    assert all(port.startswith("127.0.0.1:") for service in (label_studio, ours) for port in service["ports"])


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a fresh shell, whatever make these tests run under."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder)}
    command = ["make", "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose Python only writes down what it is asked."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-label-studio.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    python = folder / "python"
    python.write_text(
        '#!/bin/sh\ncase "$2" in\nvenv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python";;\n'
        'pip) shift 2; echo "$*" >> calls;;\nls_backend.demo) echo "$*";;\nesac\n'
    )
    python.chmod(0o755)
    return folder


def test_make_install_runs_once_and_again_when_the_pins_change(checkout: Path) -> None:
    for _ in range(2):
        assert make(checkout, "install", "PYTHON=./python").returncode == 0
    assert (checkout / "calls").read_text() == "install -c constraints.txt -e .[dev]\n"
    later = time.time() + 10  # a file system's clock is coarser than two commands in a row
    os.utime(checkout / "constraints.txt", (later, later))
    assert make(checkout, "install", "PYTHON=./python").returncode == 0
    assert len((checkout / "calls").read_text().splitlines()) == 2


def test_torch_for_a_machine_without_a_gpu_comes_as_a_pair_from_one_index(checkout: Path) -> None:
    assert make(checkout, "install", "PYTHON=./python", "TORCH=cpu", "EXTRAS=postgresql").returncode == 0
    first, second = (checkout / "calls").read_text().splitlines()
    assert first.endswith("/whl/cpu -c constraints.txt torch torchvision")
    assert second == "install -c constraints.txt -e .[postgresql]"


def test_an_old_python_is_refused_in_one_sentence(checkout: Path) -> None:
    (checkout / "python").write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.9.6\nexit 1\n')
    for target in ("install", ".venv-label-studio"):
        answer = make(checkout, target, "PYTHON=./python")
        assert answer.returncode != 0
        assert "needs Python 3.11 or later" in answer.stderr
        assert "./python is Python 3.9.6" in answer.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_not_there_is_refused_in_the_same_sentence(checkout: Path) -> None:
    answer = make(checkout, "install", "PYTHON=./nowhere")
    assert "needs Python 3.11 or later, and ./nowhere is" in answer.stderr


def test_make_demo_installs_both_and_passes_folders_with_spaces(checkout: Path) -> None:
    answer = make(checkout, "-s", "demo", "PYTHON=./python", "IMAGES=my photos", "ORACLE=labels")
    assert answer.returncode == 0
    assert (checkout / ".venv-label-studio/.installed").exists()
    assert answer.stdout.splitlines()[-1] == "-m ls_backend.demo --images my photos --oracle labels"


def test_make_test_runs_every_tool_in_order() -> None:
    shown = make(ROOT, "--dry-run", "test").stdout
    tools = ["ruff check", "ruff format --check", "bin/mypy", "lint-imports", "-m pytest"]
    places = [shown.find(tool) for tool in tools]
    assert -1 not in places
    assert places == sorted(places)


def test_make_without_a_target_lists_every_target() -> None:
    listed = re.findall(r"^  make (\S+)", make(ROOT).stdout, re.M)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert sorted(listed) == sorted(phony.split())


def test_ci_calls_make_test_and_is_a_script_bash_understands() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    assert "CI=true make test" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)


SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\beyJ[\w-]{20,}\.[\w-]{20,}\.|\bgh[pousr]_\w{30}|\bAKIA[A-Z0-9]{16}\b"
    r"|(?i:token|secret|password|api_key)\W{1,6}[0-9a-f]{40}\b"
)


def test_no_file_of_the_repository_holds_a_secret() -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout: nothing says which files are ours")
    names = [name for name in listing.stdout.split("\0") if name]
    assert [name for name in names if Path(name).name == ".env"] == []
    texts = {name: (ROOT / name).read_bytes().decode(errors="replace") for name in names if (ROOT / name).is_file()}
    assert [name for name, text in texts.items() if SECRETS.search(text)] == []


def test_the_search_for_secrets_finds_one() -> None:
    assert SECRETS.search("LABEL_STUDIO_API_KEY=" + "0123456789" * 4)
    assert SECRETS.search("Authorization: Token " + "0123456789" * 4)
    assert SECRETS.search("-----BEGIN RSA " + "PRIVATE KEY-----")


def test_what_the_pages_are_made_of_is_in_the_wheel() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["common"]
    packed = {path for pattern in patterns for path in (ROOT / "common").glob(pattern)}
    made_of = {
        p for folder in ("templates", "static") for p in (ROOT / "common/web" / folder).rglob("*") if p.is_file()
    }
    assert len(made_of) > 10
    assert made_of <= packed
