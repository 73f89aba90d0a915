"""How every command ends: 0 done, 1 refused or failed, 2 wrong usage, 130 after Ctrl-C; one sentence, no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import click

from common.errors import HardfirstError, SettingError, UnknownNameError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
CHILDREN = ("web", "worker")
"""Commands that `serve` starts: what nobody foresaw is a line of their log, with its traceback."""


class Misuse(click.ClickException):
    """A setting or an argument is wrong."""

    exit_code = 2


class Commands(click.Group):
    """Errors on purpose are one sentence and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see the module's first line."""
        try:
            return super().invoke(ctx)
        except (SettingError, UnknownNameError) as error:
            raise Misuse(safe(str(error))) from error
        except HardfirstError as error:
            raise click.ClickException(safe(str(error))) from error
        except KeyboardInterrupt:
            click.echo("stopped by Ctrl-C", err=True)
            ctx.exit(INTERRUPTED)
        except click.exceptions.Exit:
            raise
        except Exception as error:
            told = _foreseen(error)
            if told is None and (ctx.params.get("traceback") or ctx.invoked_subcommand in CHILDREN):
                raise
            if told is None and isinstance(error, click.ClickException | click.Abort | BrokenPipeError):
                raise
            raise click.ClickException(safe(told or _unforeseen(error))) from error


def _foreseen(error: Exception) -> str | None:
    """The sentence for what a machine does to a command; None for all else."""
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
        return None
    where = str(error.filename or "")
    if error.errno == errno.ENOSPC:
        disk = f"the disk that holds {where}" if where else "a disk"
        return f"{disk} is full: free some space, then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and where:
        can = "read" if Path(where).is_file() and not os.access(where, os.R_OK) else "written"
        return f"{where} cannot be {can} ({error.strerror}): give this user the right to, or name another place"
    if where and error.strerror:
        return f"{where}: {error.strerror}"
    return None


def _unforeseen(error: Exception) -> str:
    first = (str(error).strip().splitlines() or ["no message"])[0]
    where = "this is a fault of hardfirst: `hardfirst --traceback ...` shows where"
    return f"unexpected {type(error).__name__}: {first}; {where}"


def safe(text: str) -> str:
    """A message without secrets."""
    from common import config
    from common.logs import Redactor, known_secrets

    try:
        settings = config.load()
    except HardfirstError:
        settings = None
    return Redactor(known_secrets(settings))(text)
