"""An annotator in a process of its own: next, submit, again; one JSON line per submit on standard output."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import httpx

REGION = {
    "from_name": "label",
    "to_name": "image",
    "type": "rectanglelabels",
    "value": {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0, "rectanglelabels": ["RBC"]},
}
THINKING_S = 0.3


def main(url: str, token: str, project: str) -> None:
    """Work until standard input ends."""
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    headers = {"Authorization": f"Token {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as client:
        while not over.wait(THINKING_S):
            began = time.time()
            served, refused_next = until_done(client, "GET", f"/api/projects/{project}/next")
            sent = time.time()
            task = served.json()["id"]
            _, refused = until_done(
                client, "POST", f"/api/tasks/{task}/annotations", {"result": [REGION], "lead_time": 5.0}
            )
            line = {"next_began": began, "submit_began": sent, "ended": time.time()}
            print(json.dumps({**line, "refused_next": refused_next, "refused": refused}), flush=True)


def until_done(client: httpx.Client, method: str, path: str, body: Any = None) -> tuple[httpx.Response, int]:
    """(the answer, how often Label Studio failed before): SQLite refuses writers that waited five seconds."""
    refused = 0
    while (answer := client.request(method, path, json=body)).status_code >= 500:
        refused += 1
    return answer.raise_for_status(), refused


if __name__ == "__main__":
    main(*sys.argv[1:])
