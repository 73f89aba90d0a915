"""Shell completion: the scripts, and the names they complete.

It must be quick: no torch, no SQLAlchemy, no model of the settings. A Tab that finds nothing, or cannot, says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from common.store import keys

if TYPE_CHECKING:
    from common.ports import PlatformPlugin

PROGRAM, VARIABLE = "hardfirst", "_HARDFIRST_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

STRATEGIES = ("additive", "core_set", "hybrid", "stream", "top_utility", "typicality", "uniform")
ACQUISITIONS = (
    *("categorical_entropy", "consensus", "consistency", "entropy", "head_variance", "least_confidence", "margin"),
    *("model_change", "vote_entropy"),
)
"""Names of the registries, which take a second to import; a test holds them together."""
VIEWS = ("flip", "half", "heads")
DEVICES = ("auto", "cpu", "mps", "0")

ADVICE = {
    "bash": 'eval "$(hardfirst completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(hardfirst completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "hardfirst completion fish > ~/.config/fish/completions/hardfirst.fish",
}
"""The one line that turns it on."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, names and project keys in a shell.

    Turn it on with one line, in bash: eval "$(hardfirst completion bash)"; in zsh: eval "$(hardfirst completion zsh)"
    after compinit; in fish: hardfirst completion fish > ~/.config/fish/completions/hardfirst.fish

    Example: hardfirst completion bash
    """
    click.echo(script(shell, click.get_current_context().find_root().command))


def script(shell: str, program: click.Command) -> str:
    """What the shell reads, made by click."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.BadParameter(f"{shell!r}; there are {list(SHELLS)}")
    made = kind(program, {}, PROGRAM, VARIABLE)
    return made.source_template % made.source_vars()


def platforms() -> list[str]:
    """Names of the installed platforms, without importing them."""
    return sorted(found.name for found in entry_points(group="hardfirst.platforms"))


class Names:
    """Completes one of these names; ``many``: the last of several, separated by commas."""

    def __init__(self, names: Iterable[str], *, many: bool = False) -> None:
        self._names, self._many = sorted(names), many

    def __call__(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What the shell offers."""
        before, comma, last = incomplete.rpartition(",") if self._many else ("", "", incomplete)
        return [CompletionItem(f"{before}{comma}{name}") for name in self._names if name.startswith(last)]


def loaded(platform: str) -> PlatformPlugin | None:
    """One installed platform, None where there is none of this name. As ``compose.plugin``, without what it imports."""
    found = [e for e in entry_points(group="hardfirst.platforms") if e.name == platform]
    return found[0].load() if found else None


def platform_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the installed platforms."""
    return Names(platforms())(ctx, param, incomplete)


def project_keys(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Keys of the connected projects."""
    return [CompletionItem(key, help=title) for key, title in keys.project_keys() if key.startswith(incomplete)]


def project_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The same without the platform, which the command line names before."""
    # Behind a --project without its value click leaves the platform among the words it did not get to.
    known = platforms()
    platform = next((word for word in (ctx.params.get("platform"), *ctx.args, ctx.info_name) if word in known), "")
    found = [(key.partition(":"), title) for key, title in keys.project_keys()]
    return [CompletionItem(i, help=title) for (p, _, i), title in found if p == platform and i.startswith(incomplete)]
