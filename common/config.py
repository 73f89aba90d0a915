"""Settings: every variable hardfirst reads, in one place, read once by the composition root."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from common.errors import SettingError


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


SECRET_HEADER = "X-Hardfirst-Secret"  # noqa: S105 - a name, not a secret
"""Header in which webhooks carry the secret."""


def _path(value: str) -> str:
    """'/a/b' of 'a/b/', '' of '/'."""
    steps = value.strip("/").split("/") if value.strip("/") else []
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]+", step) and step.strip(".") for step in steps):
        raise ValueError("give a path such as /hardfirst: letters, digits, '.', '_', '~', '-' between slashes")
    return "".join(f"/{step}" for step in steps)


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def _web_address(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("an address that begins with http:// or https:// is allowed")
    return value.rstrip("/") or None


WebAddress = Annotated[str | None, BeforeValidator(_web_address)]


def _official(name: str) -> Any:
    """A name the official Label Studio backend uses too."""
    return Field(default=None, validation_alias=AliasChoices(name, name.lower()))


class Settings(BaseSettings):
    """Environment variables and ``.env``; names with the prefix HARDFIRST_ unless the official backend has one."""

    model_config = SettingsConfigDict(
        env_prefix="HARDFIRST_", env_file=".env", extra="ignore", populate_by_name=True, frozen=True
    )

    label_studio_url: Annotated[str | None, _official("LABEL_STUDIO_URL")] = None
    """Where Label Studio answers, for us."""
    label_studio_api_key: Annotated[SecretStr | None, _official("LABEL_STUDIO_API_KEY")] = None
    """Personal access token or legacy token."""
    label_studio_links: WebAddress = None
    """Where browsers reach Label Studio, when that is not LABEL_STUDIO_URL: links begin with it."""
    cvat_url: Annotated[str | None, _official("CVAT_URL")] = None
    """Where CVAT answers, for us."""
    cvat_access_token: Annotated[SecretStr | None, _official("CVAT_ACCESS_TOKEN")] = None
    """Access token of CVAT that is not read-only."""
    cvat_username: Annotated[str | None, _official("CVAT_USERNAME")] = None
    """User name at CVAT, instead of an access token."""
    cvat_password: Annotated[SecretStr | None, _official("CVAT_PASSWORD")] = None
    """Password at CVAT, instead of an access token."""
    cvat_links: WebAddress = None
    """Where browsers reach CVAT, when that is not CVAT_URL: links begin with it."""
    basic_auth_user: Annotated[str | None, _official("BASIC_AUTH_USER")] = None
    """User name that platforms and people must give us."""
    basic_auth_pass: Annotated[SecretStr | None, _official("BASIC_AUTH_PASS")] = None
    """Password that platforms and people must give us."""
    model_score_threshold: Annotated[
        float,
        Field(ge=0, le=1, validation_alias=AliasChoices("MODEL_SCORE_THRESHOLD", "model_score_threshold")),
    ] = 0.5
    """Boxes under this confidence are not shown, unless the label config says otherwise."""

    home: Path = Path(".hardfirst")
    """All state: database, models, rounds, images."""
    url: str | None = None
    """Where platforms reach us; default http://127.0.0.1:PORT."""
    base_path: Annotated[str, AfterValidator(_path)] | None = None
    """Path below which browsers find us behind a proxy, such as /hardfirst; default the path of HARDFIRST_URL."""
    proxies: int = Field(default=0, ge=0)
    """Reverse proxies in front, whose X-Forwarded-For, -Proto, -Host and -Prefix are believed; 0 = none are."""
    hosts: Names = ()
    """Names we answer to besides localhost and HARDFIRST_URL's; default no others, but any with Basic auth."""
    api_token: SecretStr | None = None
    """Token that scripts may send (Authorization: Bearer ...) instead of BASIC_AUTH_USER and BASIC_AUTH_PASS."""
    host: str | None = None
    """Address to listen on; default 127.0.0.1 without Basic auth, 0.0.0.0 with it."""
    port: int = Field(default=9090, ge=1, le=65535)
    """Port to listen on."""
    database_url: str | None = None
    """SQLAlchemy URL; default SQLite in HOME."""
    webhook_secret: Names = Field(default=(), repr=False)
    """Secret that webhooks carry; several, separated by commas, during a rotation (the first is given out)."""

    model: str = "yolo11n.pt"
    """Weights of the first queue and base of every training."""
    model_root: Path | None = None
    """Folder in which a label config may name a ``model_path``; default HOME/models."""
    device: str = "auto"
    """'auto' (CUDA, MPS, CPU in this order), 'cpu', 'mps', '0', '0,1'."""
    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What scores on a CPU: 'torch', 'openvino', or 'auto' (OpenVINO where it is equal within 1e-3 and faster)."""
    imgsz: int = Field(default=640, ge=32, le=4096, multiple_of=32)
    """Pixels of the long side for scoring and training."""
    reduced_decode: bool = True
    """Photographs of at least four times IMGSZ are shrunk while decoding: faster; a few boxes move a little."""
    strategy: str = "hybrid"
    """Query strategy."""
    acquisition: str = "entropy"
    """Acquisition function of one instance."""
    strategy_options: Names = ()
    """Options of the strategy, such as spread=6,deficit=false; default the strategy's own."""
    committee: Names = ()
    """Second opinions per image: flip, half, heads, checkpoints, weights files of the model folder; default none."""
    seed: int = Field(default=0, ge=0)
    """Of everything random."""

    min_new_labels: int = Field(default=20, ge=1)
    """A round needs at least this many new labels (and 10 % of the labelled set)."""
    pause_s: float = Field(default=60, ge=0)
    """...and this many seconds without an annotation."""
    updates: int = Field(default=240, ge=1)
    """Optimizer steps of a round."""
    epochs: int = Field(default=0, ge=0)
    """Epochs of a round instead of UPDATES; 0 = by UPDATES."""
    batch: int = Field(default=8, ge=1)
    """Images per step."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of a training; 0 = all but one."""
    train_from: Literal["base", "champion"] = "base"
    """Weights a round starts from: those the project began with, or the champion's; all labels train either way."""
    validation_share: float = Field(default=0.2, ge=0, lt=1)
    """Of the labels, measured on instead of trained on while the random slice is small; 0 = the random slice alone."""
    validation_images: int = Field(default=100, ge=1)
    """The random slice is small until it measures on so many images."""
    gate_images: int = Field(default=30, ge=1)
    """Under so many validation images a new model is promoted provisionally, whatever was measured."""
    gate_margin: float = Field(default=0.02, ge=0, le=1)
    """A new model is kept back when it may be worse by more than this (mAP50-95, 90 % interval)."""
    gate_class_drop: float = Field(default=0.05, ge=0, le=1)
    """A new model is kept back when a class with 20 boxes falls by more than this (AP50-95)."""
    stop_gain: float = Field(default=0.015, ge=0, le=1)
    """Two rounds in a row under this gain (mAP50 per 100 labels) and the advice is to stop."""
    keep_checkpoints: int = Field(default=5, ge=2)
    """Newest checkpoints of a project whose weights and predictions stay on disk, besides the one that serves."""
    control: bool = False
    """Train a control on the random slice now and then, to tell what the order saved: two more trainings each time."""
    pseudo_labels: bool = False
    """Train on what the model is very sure of, too (CEAL); never shown, never measured on."""
    trust_converted: bool = False
    """Train on annotations that were made in bulk from predictions."""

    reconcile_s: float = Field(default=180, gt=0)
    """Seconds between two full comparisons with the platform."""
    first_block: int = Field(default=1000, ge=1)
    """Images published before a new order becomes active."""
    later_block: int = Field(default=5000, ge=1)
    """Images per call after that: Label Studio recounts the whole project at every call."""
    keep_publications: int = Field(default=2, ge=1)
    """Publications whose rows stay on the platform."""

    wip: int = Field(default=2, ge=1)
    """Open jobs that each annotator of CVAT keeps."""
    done_stage: Literal["annotation", "validation", "acceptance"] = "annotation"
    """Stage of CVAT at which a completed job counts as labelled; so does one that was moved on from there."""

    allow_hosts: Names = ()
    """Hosts images may be fetched from besides the platform itself."""
    max_image_mb: float = Field(default=64, gt=0)
    """A larger file is reported and skipped."""
    max_image_pixels: int = Field(default=100_000_000, ge=1)
    """A larger image is reported and skipped."""
    media_cache_gb: float = Field(default=20, gt=0)
    """Images kept on disk; labelled ones always stay."""
    log_json: bool = False
    """Logs as JSON lines."""
    read_only: bool = False
    """Pages and /api only show: nobody can train, cancel, promote, roll back or dismiss through them."""

    @property
    def authenticated(self) -> bool:
        """Whether callers must give a user name and a password."""
        return bool(self.basic_auth_user and self.basic_auth_pass)

    @property
    def bind(self) -> str:
        """Address to listen on; loopback only while nothing protects us."""
        host = self.host or ("0.0.0.0" if self.authenticated else "127.0.0.1")  # noqa: S104
        if not self.authenticated and host not in ("127.0.0.1", "localhost", "::1"):
            raise SettingError(
                f"HARDFIRST_HOST is {host!r} but nothing protects the service: set BASIC_AUTH_USER and "
                "BASIC_AUTH_PASS, or leave HARDFIRST_HOST at 127.0.0.1"
            )
        return host

    @property
    def public_url(self) -> str:
        """Where platforms reach us, without a trailing slash."""
        return (self.url or f"http://127.0.0.1:{self.port}").rstrip("/")

    @property
    def base(self) -> str:
        """BASE_PATH, or the path of URL: '' or '/a/b'. Raises SettingError."""
        if self.base_path is not None:
            return self.base_path
        try:
            return _path(urlsplit(self.public_url).path)
        except ValueError as error:
            raise SettingError(f"HARDFIRST_URL is {self.url!r}: in its path, {error}") from error

    @property
    def folder(self) -> Path:
        """HOME, absolute."""
        return self.home.expanduser().resolve()

    @property
    def models(self) -> Path:
        """The model folder, absolute."""
        return (self.model_root or self.folder / "models").expanduser().resolve()

    @property
    def database(self) -> str:
        """SQLAlchemy URL of the store."""
        return self.database_url or f"sqlite:///{self.folder / 'hardfirst.db'}"

    def secrets(self) -> tuple[str, ...]:
        """Webhook secrets, the one given out first; one is made and kept in HOME when none is configured."""
        if self.webhook_secret:
            return self.webhook_secret
        path = self.folder / "webhook-secret"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{secrets.token_hex(4)}")
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_urlsafe(32))
            try:
                path.hardlink_to(fresh)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return (path.read_text().strip(),)


def load(**overrides: Any) -> Settings:
    """Read the environment and ``.env`` once.

    Raises:
        SettingError: One sentence naming the variable, its value and what is allowed.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingError("; ".join(_sentence(e) for e in error.errors())) from error


PROJECT_FIELDS = (
    *("strategy", "acquisition", "strategy_options", "committee", "imgsz", "seed"),
    *("min_new_labels", "pause_s", "updates", "epochs", "batch"),
    *("train_from", "validation_share", "validation_images", "gate_images", "gate_margin", "gate_class_drop"),
    *("stop_gain", "control", "pseudo_labels"),
)
"""Settings that a project may have its own value of (`hardfirst set`)."""


def for_project(base: Settings, own: Mapping[str, Any], named: Callable[[str], str] = str) -> Settings:
    """The settings of one project: the service's, its own values in their place.

    Args:
        base: Of the service.
        own: Values by the names of ``PROJECT_FIELDS``, as text or as what they are. Options of the strategy stand
            beside the service's where both have the same strategy; another strategy starts from its own defaults.
        named: What the person who set a field of ``own`` calls it.

    Raises:
        SettingError: One sentence naming what is wrong, its value and what is allowed.
    """
    if not own:
        return base
    values = _own(own, named).model_dump(exclude_unset=True)
    shared = base.strategy_options if values.get("strategy", base.strategy) == base.strategy else ()
    if "strategy_options" in values or shared != base.strategy_options:
        values["strategy_options"] = merged_options(shared, values.get("strategy_options", ()))
    return base.model_copy(update=values)


def merged_options(*several: Iterable[str]) -> tuple[str, ...]:
    """Options as NAME=VALUE texts, one per name; later ones win."""
    return tuple({text.partition("=")[0].strip(): text for texts in several for text in texts}.values())


def own_values(own: Mapping[str, Any]) -> dict[str, Any]:
    """A project's own values, checked, as JSON keeps them. Raises SettingError as ``for_project``."""
    kept: dict[str, Any] = _own(own).model_dump(mode="json", exclude_unset=True)
    return kept


def _own(own: Mapping[str, Any], named: Callable[[str], str] = str) -> Any:
    try:
        return _project_model()(**own)
    except ValidationError as error:
        raise SettingError("; ".join(_sentence(e, own, named) for e in error.errors())) from error


@cache
def _project_model() -> Any:
    known = Settings.model_fields
    fields: dict[str, Any] = {n: (known[n].annotation, known[n]) for n in PROJECT_FIELDS}
    return create_model("ProjectSettings", __config__={"extra": "forbid"}, **fields)


def variable(field: str) -> str:
    """The environment variable of a settings field."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else f"HARDFIRST_{field.upper()}"


def _sentence(error: Any, own: Iterable[str] = (), named: Callable[[str], str] = str) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    known = (
        named(name) if name in own else name if name.isupper() or name not in Settings.model_fields else variable(name)
    )
    message = error["msg"].removeprefix("Value error, ")
    return f"{known} is {error['input']!r}: {message[0].lower()}{message[1:]}"
