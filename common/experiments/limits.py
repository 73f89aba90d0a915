"""What every experiment allows, in one place: a budget, a device. One rule and one sentence each."""

from __future__ import annotations

from common.errors import SettingError


def require_budget(budget: int) -> None:
    """Raise SettingError for a budget of nothing or less."""
    if budget < 1:
        raise SettingError(f"--budget is {budget}: 1 or more is allowed")


def require_device(name: str, named: str = "--device") -> None:
    """Raise SettingError for a device this machine does not have; ``named`` is what the person set.

    'auto' and 'cpu' are everywhere; only for the others is torch imported.
    """
    if name.strip().lower() != "auto":
        device(name, named)


def device(name: str, named: str = "--device") -> str:
    """'cpu', 'cuda:0', 'mps' for 'auto', 'cpu', 'mps', '0'. Raises SettingError as ``require_device``."""
    if name.strip().lower() == "cpu":
        return "cpu"
    from common.yolo import offline

    return str(offline.torch_device(name, named))
