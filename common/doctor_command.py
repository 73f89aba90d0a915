"""`hardfirst doctor`: parse, call, format."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from common.completion import platform_names, project_keys
from common.errors import SettingError
from common.round_commands import as_json_option
from common.terminal import busy, dump, say

if TYPE_CHECKING:
    from common.ports import Finding

STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red", "not applicable": "dim"}


@click.command()
@click.argument("platform", required=False, default="", metavar="[label-studio|cvat]", shell_complete=platform_names)
@click.option(
    "--project",
    "key",
    default="",
    help="platform:id, connected or not; default all that are.",
    shell_complete=project_keys,
)
@click.option("--fix", is_flag=True, help="Do what can safely be done, say what, and look again.")
@as_json_option
def doctor(platform: str, key: str, fix: bool, as_json: bool) -> None:
    """Look for what keeps the loop from working: settings, service, GPU, platform; each with its fix.

    Exit code: 0 all is well (warnings may be shown), 1 there is a problem, 2 wrong usage. Without --fix nothing is
    changed.

    Example: hardfirst doctor label-studio --project label-studio:12
    """
    from common import config
    from common.doctor.doctor import Wanted, examine, mend
    from common.doctor.findings import of_error

    # What is found is said by the report, not by the log.
    logging.basicConfig(level=logging.CRITICAL, force=True)
    wanted, done = Wanted(platform, key), list[str]()
    try:
        settings = config.load()
    except SettingError as error:
        found = [of_error("settings", error)]
    else:
        with busy("looking"):
            found = examine(settings, wanted)
            if fix and (done := mend(found)):
                found = examine(settings, wanted)
    _report(found, done, as_json=as_json)
    sys.exit(1 if any(f.state == "problem" for f in found) else 0)


def _report(found: Sequence[Finding], done: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        rows = [{n: getattr(f, n) for n in ("about", "name", "state", "evidence", "fix")} for f in found]
        counts = {state: sum(f.state == state for f in found) for state in STYLES}
        dump({"findings": rows, "counts": counts, "done": list(done)})
        return
    for text in done:
        say(f"fixed {text}")
    about = None
    for f in found:
        if f.about != about:
            about = f.about
            say(about or "service", style="bold")
        say(f"{f.state:<14}  {f.name:<16}  {f.evidence}", style=STYLES[f.state])
        if f.fix:
            say(f"{'':<34}  fix: {f.fix}{' (--fix does it)' if f.mend else ''}")
    told = [f"{sum(f.state == state for f in found)} {state}" for state in ("problem", "warning", "ok")]
    say(", ".join(told), style="bold")
