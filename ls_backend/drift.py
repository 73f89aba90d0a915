"""What on Label Studio is not as hardfirst left it: resets heal, a person's decisions are said and respected."""

from __future__ import annotations

from common.errors import AccessDeniedError, PlatformError, PlatformUnreachableError, ProjectGoneError
from common.ports import Drift
from ls_backend.connection import Connection
from ls_backend.snapshot import SAMPLING, Snapshot, told


def drifts(connection: Connection, version: str | None) -> list[Drift]:
    """Compare the project with what ``connect`` and ``activate(version)`` left, and heal what is safe.

    Nothing is healed once a person has taken the backend out.

    Args:
        connection: Of the project.
        version: The active publication; None before the first.
    """
    now = connection.look()
    if now.backend is None:
        return [
            Drift(
                f"project {connection.id} no longer lists the ML backend at {now.url}",
                healed=False,
                fix=f"connect again with 'hardfirst connect label-studio --project {connection.id}', or give the "
                "project back with 'hardfirst disconnect'",
            )
        ]
    found = [*_webhook(connection, now), *_version(connection, now, version)]
    return found if version is None else [*found, *_choices(connection, now)]


def _webhook(connection: Connection, now: Snapshot) -> list[Drift]:
    if now.hook_is_right:
        return []
    connection.repair_hook(now)
    told_now, told_then = told(now.hook), told(now.wanted_hook)
    return [Drift(f"the webhook of project {connection.id} was {told_now}; it is {told_then} again", healed=True)]


def _version(connection: Connection, now: Snapshot, version: str | None) -> list[Drift]:
    value, title = now.project.get("model_version"), (now.backend or {}).get("title")
    before = (connection.state.get("before") or {}).get("project") or {}
    wanted = (before.get("model_version") or "") if version is None else version
    if (value or "") == wanted or (version is None and value != title):
        return []
    what = f"model_version of project {connection.id} is {value!r}, hardfirst left {wanted!r}"
    # An empty one is what Label Studio leaves when predictions are deleted, the title what a connection leaves.
    if value not in ("", None, title):
        return [
            Drift(what, healed=False, fix=_choice(connection, f"choose {wanted!r} in the project's settings again"))
        ]
    try:
        connection.set_project({"model_version": wanted})
    except (AccessDeniedError, PlatformUnreachableError, ProjectGoneError):
        raise
    except PlatformError:
        fix = _choice(connection, f"run 'hardfirst connect label-studio --project {connection.id}' for a new order")
        return [Drift(f"{what}, and none of its predictions is left", healed=False, fix=fix)]
    return [Drift(f"{what}; it is put back", healed=True)]


def _choices(connection: Connection, now: Snapshot) -> list[Drift]:
    found, sampling = [], now.project.get("sampling")
    if sampling != SAMPLING:
        what = f"sampling of project {connection.id} is {sampling!r}, hardfirst left {SAMPLING!r}"
        found.append(Drift(what, healed=False, fix=_choice(connection, "choose uncertainty sampling again")))
    if not now.project.get("show_collab_predictions"):
        what = f"project {connection.id} no longer shows predictions to annotators"
        found.append(
            Drift(what, healed=False, fix=_choice(connection, "switch 'Use predictions to prelabel' on again"))
        )
    return found


def _choice(connection: Connection, put_back: str) -> str:
    return (
        f"{put_back}, or run 'hardfirst disconnect'; until then hardfirst publishes nothing to project {connection.id}"
    )
