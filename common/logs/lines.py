"""Log lines of a process: text for people, JSON for machines (HARDFIRST_LOG_JSON); every root handler redacts."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pythonjsonlogger.json import JsonFormatter

from common.logs.context import bound, current, fields
from common.logs.redaction import RedactingFilter, Redactor, known_secrets

if TYPE_CHECKING:
    from common.config import Settings

LOUD = ("httpx", "httpcore", "alembic")
"""Loggers that tell more than people want to read: their warnings are enough."""
APART = ("ultralytics",)
"""Loggers that make handlers of their own, when they are imported: their lines go through ours."""

VARIABLE = "HARDFIRST_LOG_CONTEXT"
"""Environment variable that hands the context to a child process; nobody sets it by hand."""

log = logging.getLogger(__name__)


def set_up(settings: Settings | None, process: str, *, as_json: bool | None = None, owns: bool = False) -> None:
    """Log to the error stream, from here to the end of the process.

    Args:
        settings: Of the service; None where they cannot be read: then the environment says what is secret.
        process: Name of this process on JSON lines: 'serve', 'web', 'worker', 'training'.
        as_json: Lines as JSON; None = as the settings say.
        owns: Whether this process is ours alone: then what nobody catches is a log line too, without its secrets.
    """
    wanted = (settings is not None and settings.log_json) if as_json is None else as_json
    handler = JsonHandler(process) if wanted else _text_handler()
    redact = Redactor(known_secrets(settings))
    handler.addFilter(RedactingFilter(redact))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(owns)
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in APART:
        _lead_to_root(logging.getLogger(name))
    if owns:
        _catch_the_uncaught()


def environment() -> dict[str, str]:
    """For the environment of a child process: what its lines are to carry, and whether they are JSON."""
    as_json = any(isinstance(handler, JsonHandler) for handler in logging.getLogger().handlers)
    return {VARIABLE: json.dumps({"fields": fields(), "json": as_json})}


@contextmanager
def inherited(process: str, *, owns: bool) -> Iterator[None]:
    """In a child process: log inside as the process that started this one told with ``environment``."""
    try:
        told = json.loads(os.environ.get(VARIABLE, "{}"))
    except ValueError:
        told = {}
    set_up(None, process, as_json=bool(told.get("json")), owns=owns)
    with bound(**told.get("fields", {})):
        yield


def is_quiet() -> bool:
    """Whether the error stream must stay free of colours and movement: no terminal, NO_COLOR, a dumb terminal."""
    return not sys.stderr.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


class TextLines(logging.Formatter):
    """A line of text; the trace, where there is one, at its end."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        """The first line: a traceback comes below it."""
        trace = current()
        return super().formatMessage(record) + (f"  [trace {trace}]" if trace else "")


def _text_handler() -> logging.Handler:
    if is_quiet():
        handler: logging.Handler = logging.StreamHandler()
        handler.setFormatter(TextLines("%(asctime)s %(levelname)-7s %(message)s"))
        return handler
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_path=False)
    handler.setFormatter(TextLines("%(message)s"))
    return handler


class JsonHandler(logging.StreamHandler[Any]):
    """One JSON object per line on the error stream."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.setFormatter(_JsonLines(process))


class _JsonLines(JsonFormatter):
    """Fields in the order in which people read them; what was given as ``extra`` comes last."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, _message_dict: dict[str, Any]) -> None:
        log_data.update(_line(record, self._process))
        new = {k: v for k, v in vars(record).items() if k not in self.reserved_attrs and not k.startswith("_")}
        log_data.update({k: v for k, v in new.items() if k not in log_data})


def _line(record: logging.LogRecord, process: str) -> dict[str, Any]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    line = {"time": at, "level": record.levelname.lower(), "process": process, "logger": record.name}
    line |= {"message": record.getMessage()} | fields()
    if record.exc_info and record.exc_info[0] is not None:
        line["error"] = record.exc_info[0].__name__
    if record.exc_text:
        line["traceback"] = record.exc_text
    return line


class _ToRoot(logging.Filter):
    """Hands every record to the root handlers, and none to those that the logger's own library made."""

    def filter(self, record: logging.LogRecord) -> bool:
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        return False


def _lead_to_root(logger: logging.Logger) -> None:
    if not any(isinstance(f, _ToRoot) for f in logger.filters):
        logger.addFilter(_ToRoot())


def _catch_the_uncaught() -> None:
    def main_thread(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        log.critical("unexpected %s: %s", kind.__name__, error, exc_info=(kind, error, trace))

    def other_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            found = (args.exc_type, args.exc_value, args.exc_traceback)
            log.error(
                "unexpected %s in thread %s", args.exc_type.__name__, args.thread and args.thread.name, exc_info=found
            )

    sys.excepthook, threading.excepthook = main_thread, other_thread
