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
from rich.table import Table

from common import config
from common.config import Settings
from common.errors import HardfirstError, SettingError
from common.status import project_status

console = Console()


class _Group(click.Group):
    """Errors on purpose are one sentence and exit code 1, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingError as error:
            raise click.UsageError(str(error)) from error
        except HardfirstError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hardfirst")
def main() -> None:
    """Hardest images first: active learning beside Label Studio and CVAT."""


def _logging(settings: Settings) -> None:
    handler: logging.Handler = RichHandler(console=Console(stderr=True), show_path=False)
    if settings.log_json:
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s", force=True)
    for loud in ("httpx", "httpcore", "alembic"):
        logging.getLogger(loud).setLevel(logging.WARNING)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"at": record.created, "level": record.levelname, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


@main.command()
def serve() -> None:
    """Run the service: HTTP and worker, all one machine needs.

    Example: hardfirst serve
    """
    from common.serve import Supervisor, commands

    settings = config.load()
    _logging(settings)
    _ready(settings)
    console.print(f"hardfirst answers on http://{settings.bind}:{settings.port}; state is in {settings.folder}")
    Supervisor(commands()).run()


def _ready(settings: Settings) -> None:
    """Fail here, in one sentence, rather than in a child that is started again and again."""
    from common.compose import plugins
    from common.loop.ordering import check_strategy
    from common.store import open_store

    check_strategy(settings.strategy, settings.acquisition)
    settings.folder.mkdir(parents=True, exist_ok=True)
    open_store(settings.database, settings.folder).close()
    settings.secrets()
    plugins()


@main.command(hidden=True)
def web() -> None:
    """The HTTP process of `serve`."""
    from common.serve import run_web

    settings = config.load()
    _logging(settings)

    def make_app() -> Any:
        from common.compose import backend, plugins
        from common.web.app import create_app

        return create_app(backend(settings), plugins().values())

    run_web(settings, make_app)


@main.command(hidden=True)
def worker() -> None:
    """The reconciler of `serve`."""
    from common.compose import loop
    from common.worker import Worker

    settings = config.load()
    _logging(settings)
    made = loop(settings)
    Worker(made.tools.store, made).run()


@main.command()
@click.argument("platform")
@click.option("--project", required=True, help="The platform's project id.")
@click.option("--dry-run", is_flag=True, help="Print every change, make none.")
@click.option("--replace", is_flag=True, help="Take the place of another connected backend.")
def connect(platform: str, project: str, dry_run: bool, replace: bool) -> None:
    """Connect a project; what was there before is kept for `disconnect`.

    Example: hardfirst connect label-studio --project 12 --dry-run
    """
    from common.connection import connect_project

    changes, warnings = connect_project(config.load(), platform, project, dry_run=dry_run, replace=replace)
    for change in changes:
        console.print(f"{'would change' if dry_run else 'changed'} {change}", markup=False)
    for warning in warnings:
        console.print(warning, style="yellow", markup=False)
    if not changes:
        console.print("nothing to change: the project is connected")


@main.command()
@click.argument("platform")
@click.option("--project", required=True, help="The platform's project id.")
@click.option("--keep-predictions", is_flag=True, help="Leave our predictions on the platform.")
def disconnect(platform: str, project: str, keep_predictions: bool) -> None:
    """Put everything back as it was before `connect`; our data stays until `forget`.

    Example: hardfirst disconnect label-studio --project 12
    """
    from common.connection import disconnect_project

    with console.status("removing our predictions") as status:
        settings = config.load()

        def tell(rows: int) -> None:
            status.update(f"removing our predictions: {rows} rows")

        changes = disconnect_project(settings, platform, project, keep_predictions=keep_predictions, progress=tell)
    for change in changes:
        console.print(f"changed {change}", markup=False)


@main.command()
@click.option("--project", "key", required=True, help="platform:id, such as label-studio:12.")
@click.confirmation_option(prompt="Delete everything hardfirst knows of this project?")
def forget(key: str) -> None:
    """Delete our data of a project; the platform is not touched.

    Example: hardfirst forget --project label-studio:12
    """
    from common.connection import forget_project

    forget_project(config.load(), key)
    console.print(f"forgot {key}")


@main.command()
@click.option("--project", "key", default=None, help="platform:id; default all.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(key: str | None, as_json: bool) -> None:
    """Where every project stands: labels, round, queue, what is going on and why.

    Example: hardfirst status --project label-studio:12
    """
    from common.compose import tools

    made = tools(config.load())
    rows = [project_status(made, p) for p in made.store.projects.all() if key in (None, p.key)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        console.print("no project is connected; run `hardfirst connect PLATFORM --project ID`")
    for row in rows:
        _print_status(row)


def _print_status(row: dict[str, Any]) -> None:
    table = Table(title=f"{row['key']}  {row['title']}", title_justify="left", show_header=False)
    for name in ("state", "images", "labels", "training", "queue", "model", "classes"):
        table.add_row(name, row[name])
    for warning in row["warnings"]:
        table.add_row("[yellow]warning[/]", warning)
    for entry in row["journal"]:
        at = time.strftime("%m-%d %H:%M:%S", time.localtime(entry["at"]))
        table.add_row(at, entry["text"])
    console.print(table)


@main.command()
@click.option("--project", "key", required=True, help="platform:id.")
def train(key: str) -> None:
    """Start a round now, whatever the number of new labels.

    Example: hardfirst train --project label-studio:12
    """
    from common.connection import ask_training

    ask_training(config.load(), key)
    console.print(f"asked; `hardfirst status --project {key}` shows the progress")


if __name__ == "__main__":
    sys.exit(main())
