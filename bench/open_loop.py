"""Requests at fixed times, whatever the answers: a process of its own, so that it never waits for what it measures.

Reads a JSON list of requests from standard input: {at, name, method, url, headers, body}, ``at`` in seconds after the
start. Writes a JSON list of {name, status, late, seconds} to standard output: ``late`` = how long after its time the
request was sent, ``seconds`` = from its time to the whole answer.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

THREADS = 64
LEAD_S = 1.0
TIMEOUT_S = 30.0


def main() -> None:
    requests = json.load(sys.stdin)
    # Label Studio opens a connection per request, so we do.
    limits = httpx.Limits(max_connections=THREADS, max_keepalive_connections=0)
    with (
        httpx.Client(timeout=TIMEOUT_S, limits=limits, trust_env=False) as client,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        start = time.monotonic() + LEAD_S
        waiting = []
        for request in requests:
            time.sleep(max(0.0, start + request["at"] - time.monotonic()))
            waiting.append(pool.submit(one, client, request, start + request["at"]))
        json.dump([w.result() for w in waiting], sys.stdout)


def one(client: httpx.Client, request: dict[str, Any], due: float) -> dict[str, Any]:
    """Send one request; its time runs from when it was due."""
    late = time.monotonic() - due
    try:
        answer = client.request(
            request["method"], request["url"], headers=request["headers"], content=request["body"].encode()
        )
        status = answer.status_code
    except httpx.HTTPError:
        status = 0
    return {"name": request["name"], "status": status, "late": late, "seconds": time.monotonic() - due}


if __name__ == "__main__":
    main()
