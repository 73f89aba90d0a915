"""Settings: read once, checked, one sentence per mistake, secrets kept to themselves."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest

from common import config
from common.config import Settings
from common.errors import SettingError
from common.status import setting_rows


@pytest.fixture(autouse=True)
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No variable of the machine's, and no .env but the test's."""
    for name in [n for n in os.environ if n.startswith(("HARDFIRST_", "LABEL_STUDIO_", "BASIC_AUTH_", "MODEL_SCORE"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_set_gives_the_defaults() -> None:
    found = config.load()
    assert (found.port, found.strategy, found.bind, found.public_url) == (
        *(9090, "hybrid", "127.0.0.1"),
        "http://127.0.0.1:9090",
    )


def test_the_environment_wins_over_the_file(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clean / ".env").write_text("HARDFIRST_PORT=9191\nHARDFIRST_SEED=7\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("HARDFIRST_PORT", "9292")
    found = config.load()
    assert (found.port, found.seed) == (9292, 7)


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_every_setting_is_read_from_the_variable_we_name(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings.model_fields[field].default
    allowed = get_args(Settings.model_fields[field].annotation) if isinstance(default, str) else ()
    other = next((value for value in allowed if value != default), "https://other")
    other = "/other" if field == "base_path" else other
    value = {bool: "0" if default is True else "1", int: "320", float: "0.25"}.get(type(default), other)
    monkeypatch.setenv(config.variable(field), value)
    assert getattr(config.load(), field) != default


def test_official_names_have_no_prefix() -> None:
    names = [config.variable(f) for f in Settings.model_fields]
    assert [n for n in names if not n.startswith("HARDFIRST_")] == [
        *("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"),
        *("CVAT_URL", "CVAT_ACCESS_TOKEN", "CVAT_USERNAME", "CVAT_PASSWORD"),
        *("BASIC_AUTH_USER", "BASIC_AUTH_PASS", "MODEL_SCORE_THRESHOLD"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("HARDFIRST_PORT", v) for v in ("0", "65536", "x", "")],
        ("HARDFIRST_ENGINE", "onnx"),
        ("HARDFIRST_SEED", "-1"),
        *[("HARDFIRST_IMGSZ", v) for v in ("31", "33", "5000")],
        *[("MODEL_SCORE_THRESHOLD", v) for v in ("-0.1", "1.1", "high")],
        *[("HARDFIRST_TRUST_CONVERTED", v) for v in ("maybe", "2")],
        *[(f"HARDFIRST_{n}", "0") for n in ("BATCH", "UPDATES", "MIN_NEW_LABELS", "FIRST_BLOCK", "RECONCILE_S")],
    ],
)
def test_a_wrong_value_is_named_with_its_variable(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError) as caught:
        config.load()
    assert str(caught.value).startswith(f"{name} is {value!r}: ")
    assert "\n" not in str(caught.value)


def test_every_mistake_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARDFIRST_PORT", "x")
    monkeypatch.setenv("HARDFIRST_BATCH", "y")
    with pytest.raises(SettingError, match=r"HARDFIRST_PORT is 'x': .*; HARDFIRST_BATCH is 'y': "):
        config.load()


def test_only_a_password_opens_the_service_to_others() -> None:
    both = {"basic_auth_user": "ann", "basic_auth_pass": "x"}
    assert config.load(**both).bind == "0.0.0.0"  # noqa: S104
    assert config.load(host="10.0.0.1", **both).bind == "10.0.0.1"
    assert config.load(host="::1").bind == "::1"
    for half in ({"basic_auth_user": "ann"}, {"basic_auth_pass": "x"}, {}):
        with pytest.raises(SettingError, match="nothing protects the service"):
            _ = config.load(host="0.0.0.0", **half).bind  # noqa: S104


def test_secrets_never_show_when_settings_are_printed() -> None:
    found = config.load(label_studio_api_key="t0ken", basic_auth_pass="passw0rd", webhook_secret="hu5h, older5")
    for text in (repr(found), str(found), str(found.model_dump()["label_studio_api_key"])):
        assert not any(s in text for s in ("t0ken", "passw0rd", "hu5h", "older5"))


def test_several_webhook_secrets_are_split_and_the_first_is_given_out() -> None:
    assert config.load(webhook_secret=" new , old ,").secrets() == ("new", "old")


def test_without_a_configured_secret_one_is_made_and_kept_for_the_owner_only(tmp_path: Path) -> None:
    found = config.load(home=tmp_path / "home")
    (secret,) = found.secrets()
    assert len(secret) > 30
    assert config.load(home=tmp_path / "home").secrets() == (secret,)
    assert stat.S_IMODE((tmp_path / "home" / "webhook-secret").stat().st_mode) == 0o600


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: config.load(home=tmp_path / "home").secrets(), range(8)))
    assert len(set(made)) == 1
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["webhook-secret"]


def test_paths_are_absolute_whatever_the_folder_one_starts_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = config.load(home=Path("here"))
    assert found.folder == tmp_path.resolve() / "here"
    assert found.models == tmp_path.resolve() / "here" / "models"
    assert found.database == f"sqlite:///{tmp_path.resolve() / 'here' / 'hardfirst.db'}"


def test_every_setting_is_explained_where_it_is_declared() -> None:
    rows = setting_rows()
    assert [name for name, _, _ in rows] == [config.variable(f) for f in Settings.model_fields]
    assert all(len(meaning) > 10 for _, _, meaning in rows)


def test_an_address_for_links_begins_with_http_or_is_none() -> None:
    assert config.load(label_studio_links="https://x/").label_studio_links == "https://x"
    assert config.load(cvat_links="").cvat_links is None
    with pytest.raises(SettingError) as refused:
        config.load(cvat_links="x:80")
    assert str(refused.value) == (
        "HARDFIRST_CVAT_LINKS is 'x:80': an address that begins with http:// or https:// is allowed"
    )
