"""The Platform port of one Label Studio project: tasks, annotations, predictions, addresses."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from common.config import Settings
from common.domain import Annotation, ProjectSpec, QueueItem, RemoteSample
from common.errors import PublishError
from common.ports import Change, Drift, chunks
from ls_backend import label_config, refusals, wire
from ls_backend.connection import Connection, Saver
from ls_backend.drift import drifts

if TYPE_CHECKING:
    from ls_backend.client import Api

IMPORT_S = 900.0
"""1,000 predictions take 5 to 60 seconds on SQLite."""
PAGE = 1000
"""Rows of one slim listing."""
FULL_PAGE = 100
"""Tasks of one listing with annotations or predictions."""
OVERLAP = timedelta(seconds=5)
"""``annotations(since)`` looks back this much further: a transaction may commit after its timestamp."""
SLIM = "id,data,updated_at,total_annotations,cancelled_annotations"
# The names in ``include`` hold for nested objects too: without them an annotation comes back empty.
FULL = (
    "id,created_at,annotations,result,task,completed_by,was_cancelled,ground_truth,updated_at,lead_time,updated_by,"
    "parent_prediction,parent_annotation,bulk_created"
)
CLOUD = ("s3", "gs", "azure-blob", "azure", "azure_spi", "redis")


class LabelStudioPlatform:
    """One Label Studio project. See ``common.ports.Platform`` for the contract."""

    def __init__(
        self, project: str, api: Api, settings: Settings, state: dict[str, Any], save: Saver | None = None
    ) -> None:
        self.state, self._project, self._api, self._settings = state, project, api, settings
        self._connection = Connection(project, api, settings, state, save or (lambda _: None))

    def close(self) -> None:
        """Close the connections; also done when the port is forgotten."""
        self._api.close()

    def spec(self) -> ProjectSpec:
        """The project as it is now."""
        raw = self._connection.project()
        return label_config.parse(
            raw.get("label_config") or "",
            title=raw.get("title") or "",
            show_from=self._settings.model_score_threshold,
        )

    def connect(self, *, dry_run: bool, replace: bool, listed: bool = False) -> list[Change]:
        """Register with the project; see ``Connection.connect``."""
        self.spec()
        return self._connection.connect(dry_run=dry_run, replace=replace, listed=listed)

    def advice(self) -> list[str]:
        """Nothing: what is wrong is refused."""
        return []

    def disconnect(self) -> list[Change]:
        """Put back what was there before; predictions stay, ``retire`` removes them slowly."""
        return self._connection.disconnect()

    def activate(self, version: str) -> None:
        """Serve annotators by ``version``, in one request."""
        self._connection.activate(version)

    def drift(self, version: str | None) -> list[Drift]:
        """What differs from what ``connect`` and ``activate`` left."""
        return drifts(self._connection, version)

    # --- reading -----------------------------------------------------------------------------------------

    def _tasks(self, filters: Sequence[Mapping[str, Any]], *, fields: str, include: str, size: int) -> Iterator[Any]:
        """Tasks by ascending id; each page starts after the last id, so that deletions meanwhile skip nothing."""
        last = 0
        while True:
            items = [_filter("id", "greater", "Number", last), *filters]
            query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
            page = self._api.get(
                "api/tasks",
                {
                    "project": self._project,
                    "fields": fields,
                    "include": include,
                    "page_size": size,
                    "query": json.dumps(query),
                    "resolve_uri": "false",
                },
                what=f"list the tasks of project {self._project}",
                right="tasks.view",
                gone=self._project,
            )["tasks"]
            yield from page
            if len(page) < size:
                return
            last = max(int(task["id"]) for task in page)

    def samples(self) -> Iterator[RemoteSample]:
        """Every task by ascending id, 1,000 per request."""
        spec = self.spec()
        for task in self._tasks([], fields="task_only", include=SLIM, size=PAGE):
            yield wire.sample(task, spec)

    def annotations(
        self, *, since: datetime | None = None, samples: Sequence[str] = ()
    ) -> Iterator[tuple[str, list[Annotation]]]:
        """(task id, its annotations); a task whose last annotation is gone comes with an empty list."""
        spec = self.spec()
        if samples:
            yield from self._full(samples, spec)
            return
        touched: list[str] = []
        for task in self._changed(since):
            if task.get("total_annotations") or task.get("cancelled_annotations"):
                touched.append(str(task["id"]))
            else:
                yield str(task["id"]), []
        yield from self._full(touched, spec)

    def _changed(self, since: datetime | None) -> Iterator[Any]:
        slim = "id,total_annotations,cancelled_annotations"
        if since is not None:
            # Creating, editing, skipping and deleting an annotation all move the task's updated_at.
            when = (since.astimezone(UTC) - OVERLAP).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # The one format it reads.
            yield from self._tasks(
                [_filter("updated_at", "greater", "Datetime", when)], fields="task_only", include=slim, size=PAGE
            )
            return
        answered = [_filter("total_annotations", "greater", "Number", 0)]
        skipped = [
            _filter("total_annotations", "equal", "Number", 0),
            _filter("cancelled_annotations", "greater", "Number", 0),
        ]
        for filters in (answered, skipped):
            yield from self._tasks(filters, fields="task_only", include=slim, size=PAGE)

    def _full(self, ids: Sequence[str], spec: ProjectSpec) -> Iterator[tuple[str, list[Annotation]]]:
        for some in chunks(list(ids), FULL_PAGE):
            wanted = [_filter("id", "in_list", "Number", [int(i) for i in some])]
            for task in self._tasks(wanted, fields="all", include=FULL, size=FULL_PAGE):
                yield str(task["id"]), [wire.annotation(raw, spec, task) for raw in task.get("annotations") or []]

    def published(self) -> dict[str, int]:
        """Version -> number of predictions."""
        found = self._api.get(
            f"api/projects/{self._project}/model-versions/",
            {"extended": "true"},
            what=f"list the predictions of project {self._project}",
            right="projects.view",
            gone=self._project,
        )
        rows = found.get("static")
        if isinstance(rows, list):
            return {str(row["model_version"]): int(row["count"]) for row in rows}
        return {str(version): int(count) for version, count in found.items()}  # without ``extended``

    # --- writing -----------------------------------------------------------------------------------------

    def publish(self, version: str, items: Sequence[QueueItem]) -> int:
        """Import one prediction per item, in one request."""
        if not items:
            return 0
        spec = self.spec()
        rows = [wire.prediction(item, version, spec) for item in items]
        faults = [fault for row in rows for fault in wire.problems(row, spec)]
        if faults:
            raise PublishError(f"{len(faults)} predictions of {version} would be dropped by Label Studio: {faults[0]}")
        what = f"import predictions into project {self._project}"
        status, answer = self._api.try_post(
            f"api/projects/{self._project}/import/predictions", rows, what=what, limit_s=IMPORT_S
        )
        if status == 400 and "task ID couldn't be retrieved" in refusals.full_words(answer):
            raise PublishError(
                f"nothing of {version} was stored: a task of the queue was deleted from project {self._project} "
                "meanwhile; read the tasks again and publish what is left"
            )
        if status >= 300:
            known = {"base": self._api.base, "what": what, "right": "predictions.any", "project": self._project}
            raise refusals.refusal(status, answer, **known)
        return int(answer["created"])

    def retire(self, version: str, limit: int) -> int:
        """Delete up to ``limit`` predictions of ``version`` one by one, each a short transaction.

        A prediction that an annotation was made from stays: deleting it would change the annotation.
        """
        gone = 0
        holding = [_filter("predictions_model_versions", "contains", "List", [version])]
        include = "id,predictions,annotations,parent_prediction"
        for task in self._tasks(holding, fields="all", include=include, size=max(1, min(limit, FULL_PAGE))):
            parents = {a.get("parent_prediction") for a in task.get("annotations") or []}
            for row in task.get("predictions") or []:
                # 'contains' also finds versions of which this one is a part.
                if row["model_version"] != version or row["id"] in parents:
                    continue
                if gone >= limit:
                    return gone
                gone += self._api.delete("predictions", row["id"], right="predictions.any")
        return gone

    def tend(self, *, news: bool) -> bool:  # noqa: ARG002
        """Nothing: Label Studio serves by score itself."""
        return False

    # --- addresses ---------------------------------------------------------------------------------------

    def link(self, sample: str) -> str:
        """The task, open in the Data Manager."""
        base = self._settings.label_studio_links or self._api.base
        return f"{base}/projects/{self._project}/data?task={sample}"

    def media_origin(self) -> str:
        """Scheme, host and port of LABEL_STUDIO_URL."""
        parts = urlsplit(self._api.base)
        return f"{parts.scheme}://{parts.netloc}"

    def media_headers(self) -> Mapping[str, str]:
        """``Token ...`` or a ``Bearer ...`` that lives for another 90 seconds at least."""
        return self._api.media_headers()

    def media_bulk(self, urls: Sequence[str]) -> Iterator[tuple[str, bytes]]:  # noqa: ARG002
        """Nothing: every image has its own address."""
        return iter(())

    def media_url(self, sample: str, uri: str) -> str:
        """A path is on Label Studio, under its own path if it has one; a cloud URI goes through its proxy."""
        if uri.split("://", 1)[0].lower() in CLOUD and "://" in uri:
            coded = base64.urlsafe_b64encode(uri.encode()).decode()
            return f"{self._api.base}/tasks/{sample}/resolve/?fileuri={coded}"
        if not uri.startswith("/") or uri.startswith("//"):
            return uri
        prefix = urlsplit(self._api.base).path
        inside = bool(prefix) and uri.startswith(f"{prefix}/")
        return f"{self.media_origin() if inside else self._api.base}{uri}"


def _filter(field: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {"filter": f"filter:tasks:{field}", "operator": operator, "type": kind, "value": value}
