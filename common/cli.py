"""`hardfirst ...`: parse, call, format."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from common.commands import Commands
from common.completion import completion, project_keys
from common.connect_command import CONNECTING
from common.doctor_command import doctor
from common.experiments.commands import EXPERIMENTS
from common.round_commands import ROUNDS, as_json_option, project_option
from common.terminal import dump, say

if TYPE_CHECKING:
    from common.config import Settings


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hardfirst")
@click.option("--traceback", is_flag=True, help="Of an error nobody foresaw, show where it came from.")
def main(traceback: bool) -> None:
    """Hardest images first: active learning beside Label Studio and CVAT.

    Settings come from the environment and from .env; `hardfirst settings` lists them. Exit codes: 0 done, 1 refused or
    failed, 2 wrong usage, 130 after Ctrl-C. `hardfirst completion bash` prints the completion of your shell.

    Example: hardfirst connect label-studio --project 12
    """


def _load() -> Settings:
    from common import config

    return config.load()


_parent = click.option("--parent", type=int, hidden=True, help="Die when this process dies.")


def _child(parent: int | None) -> None:
    from common.lifeline import die_with

    if parent:
        die_with(parent)


def _logged(process: str, parent: int | None = None) -> Settings:
    """The settings, and logs as they say; a process that `serve` started is ours alone."""
    from common import logs

    settings = _load()
    logs.set_up(settings, process, owns=bool(parent))
    return settings


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
    settings = _logged("serve")
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
    settings = _logged("web", parent)

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
    settings = _logged("worker", parent)
    made = loop(settings)
    Worker(made.tools.store, made).run()


@main.command()
@project_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
def forget(key: str, yes: bool, as_json: bool) -> None:
    """Delete our data of a project; the platform is not touched.

    Example: hardfirst forget --project label-studio:12
    """
    from common.connection import forget_project

    if not yes:
        click.confirm("Delete everything hardfirst knows of this project?", abort=True, err=True)
    forget_project(_load(), key)
    return dump({"project": key, "forgotten": True}) if as_json else say(f"forgot {key}")


@main.command()
@click.option("--project", "key", default=None, help="platform:id; default all.", shell_complete=project_keys)
@as_json_option
def status(key: str | None, as_json: bool) -> None:
    """Where every project stands: labels, round, queue, what is going on and why.

    Example: hardfirst status --project label-studio:12
    """
    from common.status import statuses

    rows = statuses(_load(), key)
    if as_json:
        return dump(rows)
    if not rows:
        say("no project is connected; run `hardfirst connect PLATFORM --project ID`")
    for row in rows:
        _say_status(row)
    return None


def _say_status(row: dict[str, Any]) -> None:
    say(f"{row['key']}  {row['title']}".rstrip(), style="bold")
    told = ("state", "images", "labels", "training", "verdict", "advice", "queue", "trace")
    for name in (*told, "model", "classes", "settings"):
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

    rows = set_project(_load(), key, changes, unset)
    if as_json:
        return dump({"project": key, "settings": rows})
    for row in rows:
        why = f"its own; {shown(row['default']) or 'nothing'} without" if row["own"] else ""
        say(f"{row['name']:<26} {shown(row['value']):<24} {why}".rstrip(), style="bold" if row["own"] else None)
    return None


@main.command()
@click.option("--markdown", is_flag=True, help="As docs/settings.md.")
@as_json_option
def settings(markdown: bool, as_json: bool) -> None:
    """Every setting, its default and what it does; values are never shown.

    Example: hardfirst settings
    """
    from common.settings_page import page
    from common.status import setting_rows

    if markdown:
        return click.echo(page(), nl=False)
    rows = setting_rows()
    if as_json:
        return dump([{"name": name, "default": default, "meaning": meaning} for name, default, meaning in rows])
    for name, default, meaning in rows:
        say(f"{name:<32} {default:<16} {meaning}")
    return None


for _command in (*CONNECTING, *ROUNDS, *EXPERIMENTS, doctor, completion):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())
