"""CVAT: webhooks and the Platform port. Never imports the other adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from common.ports import ConnectOption, Memory

if TYPE_CHECKING:
    from flask import Blueprint

    from common.config import Settings
    from common.ports import Finding, Patient, Platform


class Cvat:
    """What the entry point ``cvat`` names; loads the SDK and Flask only when they are needed."""

    name = "cvat"
    options = (
        ConnectOption("org", "Short name of the organization; default the project's own.", metavar="SLUG"),
        ConnectOption("queue", "How annotators get their order: inbox (default) or task.", metavar="inbox|task"),
        ConnectOption("job-value", "Best frame of a job (max, default) or mean of its three best.", metavar="max|top3"),
        ConnectOption("annotators", "Only these user names get jobs; default every worker.", metavar="NAME,NAME"),
        ConnectOption("create-labels", "Create a label for each class of the model that has none.", "classes"),
    )

    def open(
        self,
        project: str,
        settings: Settings,
        state: dict[str, Any],
        save: Callable[[dict[str, Any]], None],
        memory: Memory,
    ) -> Platform:
        """The platform port of one project.

        Args:
            project: CVAT's project id.
            settings: Address and credentials are in CVAT_URL and CVAT_ACCESS_TOKEN, or CVAT_USERNAME and CVAT_PASSWORD.
            state: What an earlier port of this project left; kept up to date in place.
            save: Called with ``state`` before each write that must be undoable.
            memory: Of this project: the order, and what we wrote where.

        Raises:
            SettingError: Address or credentials are missing.
        """
        from cvat_adapter.client import open_platform

        return open_platform(project, settings, state, save, memory)

    def blueprint(self, backend: Any) -> Blueprint:
        """The Flask blueprint that takes webhooks and shows the ranked jobs."""
        from cvat_adapter.app import blueprint

        made: Blueprint = blueprint(backend)
        return made

    def checks(self, settings: Settings, patients: Sequence[Patient]) -> list[Finding]:
        """What `hardfirst doctor` finds in CVAT; see ``common.ports.CheckedPlugin``."""
        from cvat_adapter.checks import examine

        return examine(settings, patients)


PLATFORM = Cvat()
