"""Gunicorn's lines through our handlers; an access line per request where lines are JSON. The only gunicorn import."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from common.logs.context import REQUEST_ID, bound


class GunicornLines(Logger):  # type: ignore[misc]
    """What gunicorn says, by the root logger's handlers."""

    def setup(self, cfg: Any) -> None:
        """As gunicorn's, without handlers of its own."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """One line per answer: method, path, status, seconds, under the request's trace."""
        if not self.cfg.accesslog:
            return
        headers = {str(name).lower(): str(value) for name, value in getattr(resp, "headers", ())}
        status, path = str(resp.status).split(" ")[0], req.uri
        seconds = round(request_time.total_seconds(), 4)
        told = {"method": req.method, "path": path, "status": int(status) if status.isdigit() else status}
        told |= {"seconds": seconds, "bytes": getattr(resp, "sent", None), "remote": environ.get("REMOTE_ADDR")}
        with bound(trace=headers.get(REQUEST_ID.lower(), "")):
            self.access_log.info("%s %s %s", req.method, path, status, extra=told)
