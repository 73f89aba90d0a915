"""`hardfirst ...`: parse, call, format."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler

from common import config
from common.config import Settings
from common.doctor_command import doctor
from common.errors import HardfirstError, SettingError, UnknownNameError
from common.experiments.commands import EXPERIMENTS
from common.lifeline import die_with
from common.round_commands import ROUNDS, as_json_option, project_option, say


class _Misuse(click.ClickException):
    """A setting or an argument is wrong."""

    exit_code = 2


class _Group(click.Group):
    """Errors on purpose are one sentence and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingError, UnknownNameError) as error:
            raise _Misuse(str(error)) from error
        except HardfirstError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hardfirst")
def main() -> None:
    """Hardest images first: active learning beside Label Studio and CVAT.

    Settings come from the environment and from .env; `hardfirst settings` lists them.
    """


def _logging(settings: Settings) -> None:
    handler: logging.Handler = logging.StreamHandler()
    if settings.log_json:
        handler.setFormatter(_JsonLines())
    elif sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for loud in ("httpx", "httpcore", "alembic"):
        logging.getLogger(loud).setLevel(logging.WARNING)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": record.created, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


_parent = click.option("--parent", type=int, hidden=True, help="Die when this process dies.")


def _child(parent: int | None) -> None:
    if parent:
        die_with(parent)


@main.command()
@_parent
def serve(parent: int | None) -> None:
    """Run the service: HTTP and worker, all one machine needs.

    Example: hardfirst serve
    """
    from common.opening import check_home
    from common.serve import Supervisor, alone, commands
    from common.serving_checks import check_serving

    _child(parent)
    settings = config.load()
    _logging(settings)
    check_home(settings)
    with alone(settings.folder):
        check_serving(settings)
        say(f"hardfirst answers on http://{settings.bind}:{settings.port}; state is in {settings.folder}")
        Supervisor(commands()).run()


@main.command(hidden=True)
@_parent
def web(parent: int | None) -> None:
    """The HTTP process of `serve`."""
    from common.serve import run_web

    _child(parent)
    settings = config.load()
    _logging(settings)

    def make_app() -> Any:
        from common.compose import backend, plugins
        from common.web.app import create_app

        made = backend(settings)
        made.warm()
        return create_app(made, plugins().values())

    run_web(settings, make_app)


@main.command(hidden=True)
@_parent
def worker(parent: int | None) -> None:
    """The reconciler of `serve`.

    Example: hardfirst worker
    """
    from common.compose import loop
    from common.worker import Worker

    _child(parent)
    settings = config.load()
    _logging(settings)
    made = loop(settings)
    Worker(made.tools.store, made).run()


class _Platforms(click.Group):
    """One command per installed platform, with the options that only it has."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        from common.compose import plugins

        return sorted(plugins())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:  # noqa: ARG002
        from common.compose import plugin

        found = plugin(cmd_name)
        shared: list[click.Parameter] = [
            click.Option(["--project"], required=True, help="The platform's project id."),
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


@main.group(cls=_Platforms, no_args_is_help=False)
def connect() -> None:
    """Connect a project; what was there before is kept for `disconnect`.

    Example: hardfirst connect label-studio --project 12 --dry-run
    """


def _connect(platform: str, project: str, dry_run: bool, replace: bool, as_json: bool, **options: Any) -> None:
    from common.connection import connect_project

    changes, warnings = connect_project(
        config.load(), platform, project, dry_run=dry_run, replace=replace, options=options
    )
    if as_json:
        listed = [{"what": c.what, "before": c.before, "after": c.after} for c in changes]
        click.echo(json.dumps({"dry_run": dry_run, "changes": listed, "warnings": warnings}, indent=2))
        return
    for change in changes:
        say(f"{'would change' if dry_run else 'changed'} {change}")
    for warning in warnings:
        say(f"warning: {warning}", style="yellow")
    if not changes:
        say("nothing to change: the project is connected")


@main.command()
@click.argument("platform")
@click.option("--project", required=True, help="The platform's project id.")
@click.option("--keep-predictions", is_flag=True, help="Leave our predictions on the platform.")
def disconnect(platform: str, project: str, keep_predictions: bool) -> None:
    """Put everything back as it was before `connect`; our data stays until `forget`.

    Example: hardfirst disconnect label-studio --project 12
    """
    from common.connection import disconnect_project

    settings = config.load()
    with Console(stderr=True).status("removing our predictions") as shown:

        def tell(rows: int) -> None:
            shown.update(f"removing our predictions: {rows} rows")

        changes = disconnect_project(settings, platform, project, keep_predictions=keep_predictions, progress=tell)
    for change in changes:
        say(f"changed {change}")
    if not changes:
        say("nothing to change: the project is not connected")


@main.command()
@project_option
@click.confirmation_option(prompt="Delete everything hardfirst knows of this project?")
def forget(key: str) -> None:
    """Delete our data of a project; the platform is not touched.

    Example: hardfirst forget --project label-studio:12
    """
    from common.connection import forget_project

    forget_project(config.load(), key)
    say(f"forgot {key}")


@main.command()
@click.option("--project", "key", default=None, help="platform:id; default all.")
@as_json_option
def status(key: str | None, as_json: bool) -> None:
    """Where every project stands: labels, round, queue, what is going on and why.

    Example: hardfirst status --project label-studio:12
    """
    from common.status import statuses

    rows = statuses(config.load(), key)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        say("no project is connected; run `hardfirst connect PLATFORM --project ID`")
    for row in rows:
        _say_status(row)


def _say_status(row: dict[str, Any]) -> None:
    say(f"{row['key']}  {row['title']}".rstrip(), style="bold")
    for name in ("state", "images", "labels", "training", "verdict", "advice", "queue", "model", "classes", "settings"):
        if row[name]:
            say(f"  {name:<9} {row[name]}")
    for name, line in row["platform"].items():
        say(f"  {name:<9} {line}")
    for warning in row["warnings"]:
        say(f"  {'warning':<9} {warning}", style="yellow")
    for entry in row["journal"]:
        at = time.strftime("%m-%d %H:%M:%S", time.localtime(entry["at"]))
        say(f"  {at}  {entry['text']}")


@main.command(name="set")
@project_option
@click.argument("changes", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--unset", multiple=True, metavar="NAME", help="Back to the service's value; may be repeated.")
@as_json_option
def set_(key: str, changes: tuple[str, ...], unset: tuple[str, ...], as_json: bool) -> None:
    """Give one project settings of its own; without NAME=VALUE, list them.

    Example: hardfirst set --project label-studio:12 imgsz=320 committee=flip
    """
    from common.connection import set_project
    from common.loop.project_settings import shown

    rows = set_project(config.load(), key, changes, unset)
    if as_json:
        click.echo(json.dumps({"project": key, "settings": rows}, indent=2))
        return
    for row in rows:
        note = f"its own; {shown(row['default']) or 'nothing'} without" if row["own"] else ""
        say(f"{row['name']:<26} {shown(row['value']):<24} {note}".rstrip(), style="bold" if row["own"] else None)


@main.command()
@click.option("--markdown", is_flag=True, help="As the table of the README.")
def settings(markdown: bool) -> None:
    """Every setting, its default and what it does; values are never shown.

    Example: hardfirst settings
    """
    from common.status import setting_rows

    rows = setting_rows()
    if markdown:
        click.echo("| Variable | Default | Meaning |\n| --- | --- | --- |")
        for name, default, meaning in rows:
            click.echo(f"| `{name}` | {f'`{default}`' if default else ''} | {meaning.replace('``', '`')} |")
        return
    for name, default, meaning in rows:
        say(f"{name:<32} {default:<16} {meaning}")


for _command in (*ROUNDS, *EXPERIMENTS, doctor):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
