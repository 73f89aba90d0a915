"""`hardfirst connect` and `disconnect`, with the options that only one platform has: parse, call, format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from common.completion import loaded, platform_names, platforms, project_ids
from common.round_commands import as_json_option
from common.terminal import busy, dump, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.ports import Change


class _Platforms(click.Group):
    """One command per installed platform, with the options that only it has."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        if _is_a_tab(ctx):
            return platforms()
        from common.compose import plugins

        return sorted(plugins())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if _is_a_tab(ctx):
            found = loaded(cmd_name)
            if found is None:
                return None
        else:
            from common.compose import plugin

            found = plugin(cmd_name)
        shared: list[click.Parameter] = [
            click.Option(["--project"], required=True, help="The platform's project id.", shell_complete=project_ids),
            click.Option(["--dry-run"], is_flag=True, help="Print every change, make none."),
            click.Option(["--replace"], is_flag=True, help="Take the place of another connected backend."),
            click.Option(["--json", "as_json"], is_flag=True, help="JSON, for scripts."),
        ]
        own = [
            click.Option([f"--{o.name}"], help=o.help, metavar=o.metavar)
            if o.kind == "text"
            else click.Option([f"--{o.name}"], is_flag=True, help=o.help)
            for o in found.options
        ]
        return click.Command(
            cmd_name,
            params=[*shared, *own],
            callback=lambda **given: _connect(cmd_name, **given),
            help=f"Connect a project of {cmd_name}; what was there before is kept for `disconnect`.\n\n"
            f"Example: hardfirst connect {cmd_name} --project 12 --dry-run",
        )


def _is_a_tab(ctx: click.Context | None) -> bool:
    """Whether a shell asks, which must have its answer quickly."""
    return ctx is not None and ctx.resilient_parsing


@click.group(cls=_Platforms, no_args_is_help=False)
def connect() -> None:
    """Connect a project; what was there before is kept for `disconnect`.

    Example: hardfirst connect label-studio --project 12 --dry-run
    """


def _connect(platform: str, project: str, dry_run: bool, replace: bool, as_json: bool, **options: Any) -> None:
    from common import config
    from common.connection import connect_project

    settings = config.load()
    with busy(f"talking to {platform}"):
        changes, warnings = connect_project(
            settings, platform, project, dry_run=dry_run, replace=replace, options=options
        )
    if as_json:
        return dump({"dry_run": dry_run, "changes": _rows(changes), "warnings": warnings})
    for change in changes:
        say(f"{'would change' if dry_run else 'changed'} {change}")
    for warning in warnings:
        say(f"warning: {warning}", style="yellow")
    if not changes:
        say("nothing to change: the project is connected")
    return None


def _rows(changes: Sequence[Change]) -> list[dict[str, Any]]:
    return [{"what": c.what, "before": c.before, "after": c.after} for c in changes]


@click.command()
@click.argument("platform", shell_complete=platform_names)
@click.option("--project", required=True, help="The platform's project id.", shell_complete=project_ids)
@click.option("--keep-predictions", is_flag=True, help="Leave our predictions on the platform.")
@as_json_option
def disconnect(platform: str, project: str, keep_predictions: bool, as_json: bool) -> None:
    """Put everything back as it was before `connect`; our data stays until `forget`.

    Example: hardfirst disconnect label-studio --project 12
    """
    from common import config
    from common.connection import disconnect_project

    settings = config.load()
    with busy("removing our predictions") as tell:

        def told(rows: int) -> None:
            tell(f"removing our predictions: {rows} rows")

        changes = disconnect_project(settings, platform, project, keep_predictions=keep_predictions, progress=told)
    if as_json:
        return dump({"project": f"{platform}:{project}", "changes": _rows(changes)})
    for change in changes:
        say(f"changed {change}")
    if not changes:
        say("nothing to change: the project is not connected")
    return None


CONNECTING = (connect, disconnect)
"""The commands of this file."""
