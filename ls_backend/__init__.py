"""Label Studio: the ML-backend protocol and the Platform port. Never imports the other adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Blueprint

    from common.config import Settings
    from common.ports import ConnectOption, Finding, Memory, Patient, Platform


class LabelStudio:
    """What the entry point ``label-studio`` names; loads the SDK and Flask only when they are needed."""

    name = "label-studio"
    options: tuple[ConnectOption, ...] = ()

    def open(
        self,
        project: str,
        settings: Settings,
        state: dict[str, Any],
        save: Callable[[dict[str, Any]], None] | None = None,
        memory: Memory | None = None,  # noqa: ARG002
    ) -> Platform:
        """The platform port of one project.

        Args:
            project: Label Studio's project id.
            settings: Address and token are in LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY.
            state: What an earlier port of this project left; kept up to date in place.
            save: Called with ``state`` before each write that must be undoable.
            memory: Not needed here.

        Raises:
            SettingError: Address or token are missing.
        """
        from ls_backend.client import open_platform

        return open_platform(project, settings, state, save)

    def blueprint(self, backend: Any) -> Blueprint:
        """The Flask blueprint that speaks the ML-backend protocol."""
        from ls_backend.app import blueprint

        made: Blueprint = blueprint(backend)
        return made

    def checks(self, settings: Settings, patients: Sequence[Patient]) -> list[Finding]:
        """What `hardfirst doctor` finds in Label Studio; see ``common.ports.CheckedPlugin``."""
        from ls_backend.checks import examine

        return examine(settings, patients)


PLATFORM = LabelStudio()
