"""Brings webhook calls to their targets as CVAT's one webhook worker does: late, signed, and again after failures."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import itertools
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from tests.cvat_server.world import Delivery, Json, Webhook, World

HOUR = 3600.0
RETRIES = (5.0, 300.0, 1800.0, 3 * HOUR, 24 * HOUR, 24 * HOUR, 24 * HOUR, 24 * HOUR)
AGENT = "CVAT/2.73.0 python-requests/2.33.1"


@dataclass(frozen=True)
class Parcel:
    """One call to make; `payload` in the order of keys it is sent in."""

    webhook_id: int
    payload: Json
    attempt: int = 1
    redelivery: bool = False


@dataclass(frozen=True)
class Result:
    """How a call ended: CVAT writes 502 where nobody listens and 504 where nobody answers in time."""

    status: int
    response: str

    @property
    def worth_a_retry(self) -> bool:
        return self.status >= 500 or self.status in (408, 429)


def signature(secret: str, body: bytes) -> str:
    """The header X-Signature-256."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def changed_fields(payload: Json) -> str:
    return ",".join(payload.get("before_update", {}))


def as_stored(value: Any) -> Any:
    """JSON as PostgreSQL gives it back: shorter keys first. So redelivered bodies have other bytes."""
    if isinstance(value, dict):
        return {key: as_stored(value[key]) for key in sorted(value, key=lambda key: (len(key), key))}
    return [as_stored(one) for one in value] if isinstance(value, list) else value


class Courier:
    """The webhook worker: one thread, started by the first call, ended by `close`.

    CVAT's waits before a retry are multiplied by `world.webhooks_time_scale`: 1e-5 makes 5 minutes 3 ms.

    Attributes:
        read_timeout: seconds a receiver may take; 10 in CVAT. A slow receiver keeps everybody waiting.
    """

    def __init__(self, world: World, *, read_timeout: float = 10.0) -> None:
        self.read_timeout = read_timeout
        self._world = world
        self._turn = threading.Condition()
        self._queue: list[tuple[float, int, Parcel]] = []
        self._held: list[Parcel] = []
        self._count = itertools.count()
        self._to_lose = self._to_double = 0
        self._holding = self._paused = self._busy = self._closed = False
        self._thread: threading.Thread | None = None
        self._client: httpx.Client | None = None

    def lose(self, count: int = 1) -> None:
        """The next calls vanish: no request, no entry in the list of deliveries."""
        self._to_lose = count

    def duplicate(self, count: int = 1) -> None:
        """The next calls are made twice, with the same bytes."""
        self._to_double = count

    def hold(self) -> None:
        """Keeps the calls from now on back until `release`."""
        self._holding = True

    def release(self, order: Callable[[Sequence[Parcel]], Sequence[Parcel]] | None = None) -> None:
        """Makes the held calls in another order: backwards unless `order` says which."""
        with self._turn:
            self._holding = False
            held, self._held = self._held, []
            for parcel in order(held) if order else held[::-1]:
                self._put(parcel, 0)

    def take(self) -> list[Parcel]:
        """The held calls, oldest first, for the test to look at; they will not be made."""
        with self._turn:
            held, self._held = self._held, []
            return held

    def pause(self) -> None:
        """No call starts until `resume`; what comes is queued."""
        self._paused = True

    def resume(self) -> None:
        with self._turn:
            self._paused = False
            self._turn.notify_all()

    def post(self, parcel: Parcel) -> None:
        """Queues a call."""
        with self._turn:
            if self._to_lose:
                self._to_lose -= 1
                return
            copies = 1
            if self._to_double:
                self._to_double -= 1
                copies = 2
            for _ in range(copies):
                if self._holding:
                    self._held.append(parcel)
                else:
                    self._put(parcel, 0)

    def settle(self, timeout: float = 5.0) -> None:
        """Waits until nothing is queued, retries included; held calls do not count. TimeoutError after `timeout` s."""
        with self._turn:
            if not self._turn.wait_for(lambda: self._closed or not (self._queue or self._busy), timeout):
                raise TimeoutError(f"{len(self._queue)} webhook calls are still to be made after {timeout} s")

    @property
    def waiting(self) -> int:
        """How many calls are queued, retries and held ones included."""
        with self._turn:
            return len(self._queue) + len(self._held) + self._busy

    def forget(self, webhook_id: int) -> None:
        """Drops the calls of a webhook that was deleted or switched off."""
        with self._turn:
            self._queue = [entry for entry in self._queue if entry[2].webhook_id != webhook_id]
            heapq.heapify(self._queue)
            self._held = [parcel for parcel in self._held if parcel.webhook_id != webhook_id]
            self._turn.notify_all()

    def close(self) -> None:
        """Ends the thread; a call under way ends first."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        if self._thread is not None:
            self._thread.join(self.read_timeout + 5)
            self._thread = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def deliver(self, parcel: Parcel) -> Delivery | None:
        """Makes one call now and writes it into the list of deliveries; None where the webhook is gone."""
        with self._world.lock:
            webhook = self._world.webhooks.get(parcel.webhook_id)
        if webhook is None or not webhook.is_active:
            return None
        body = json.dumps(parcel.payload).encode()
        start = time.perf_counter()
        result = self._call(webhook, body)
        took = (time.perf_counter() - start) * 1000
        with self._world.lock:
            now = self._world.now()
            delivery = Delivery(self._world.next_id("delivery"), webhook.id, parcel.payload["event"], body, now, now)
            delivery.status_code, delivery.response, delivery.request_duration = result.status, result.response, took
            delivery.attempt, delivery.redelivery = parcel.attempt, parcel.redelivery
            delivery.changed_fields, delivery.request = changed_fields(parcel.payload), as_stored(parcel.payload)
            self._world.deliveries[delivery.id] = delivery
        return delivery

    def _put(self, parcel: Parcel, wait: float) -> None:
        heapq.heappush(self._queue, (time.monotonic() + wait, next(self._count), parcel))
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._work, name="webhooks", daemon=True)
            self._thread.start()
        self._turn.notify_all()

    def _work(self) -> None:
        while (parcel := self._next()) is not None:
            try:
                delivery = self.deliver(parcel)
                if delivery is not None and Result(delivery.status_code or 0, "").worth_a_retry:
                    self._again(parcel)
            finally:
                with self._turn:
                    self._busy = False
                    self._turn.notify_all()

    def _again(self, parcel: Parcel) -> None:
        if parcel.attempt <= len(RETRIES):
            with self._turn:
                wait = RETRIES[parcel.attempt - 1] * self._world.webhooks_time_scale
                self._put(replace(parcel, attempt=parcel.attempt + 1), wait)

    def _next(self) -> Parcel | None:
        """The next call that is due; None when the courier closes."""
        with self._turn:
            while not self._closed:
                wait = self._queue[0][0] - time.monotonic() if self._queue and not self._paused else None
                if wait is not None and wait <= 0:
                    self._busy = True
                    return heapq.heappop(self._queue)[2]
                self._turn.wait(wait)
            return None

    def _call(self, webhook: Webhook, body: bytes) -> Result:
        headers = {"User-Agent": AGENT, "Content-Type": "application/json"}
        if webhook.secret:
            headers["X-Signature-256"] = signature(webhook.secret, body)
        timeout = httpx.Timeout(self.read_timeout, connect=min(3.0, self.read_timeout))
        try:
            answer = self._connection().post(webhook.target_url, content=body, headers=headers, timeout=timeout)
        except httpx.TimeoutException as error:
            return Result(504, f"{error} (read timeout={self.read_timeout:g})")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Result(502, str(error))
        return Result(answer.status_code, answer.text)

    def _connection(self) -> httpx.Client:
        """Every call on a new connection, as in CVAT: a receiver that was restarted never meets an old one."""
        with self._turn:
            if self._client is None:
                limits = httpx.Limits(max_keepalive_connections=0)
                self._client = httpx.Client(verify=False, trust_env=False, follow_redirects=True, limits=limits)
            return self._client
