"""The lists of jobs and images of a project of CVAT, with links into its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.store.publications import Place
from tests.contract.cvat_app_service import KEY, Service, service_fixture  # noqa: F401 - a fixture


def kept(rank: int | None, **values: Any) -> dict[str, Any]:
    """What the keeper writes about a job of frames 4 to 7 of task 4."""
    about = {"rank": rank, "value": 0.9, "reason": "frame 5: entropy 0.9", "sample": "4:5", "task": 4}
    place = {"start": 4, "stop": 7, "state": "new", "stage": "annotation"}
    return {**about, **place, "assignee": None, "assignee_name": "", "mode": "inbox", **values}


def test_jobs_come_best_first_with_their_assignee_and_reason(service: Service) -> None:
    publish(service)
    rows = {"9": kept(2, assignee=3, assignee_name="annotator1"), "10": kept(1), "11": kept(None), "8": kept(None)}
    service.store.memories.of(KEY).put("job", rows)
    answer = service.client.get(f"/api/jobs?project={KEY}")
    assert answer.status_code == 200
    assert list(answer.json) == ["project", "version", "mode", "jobs"]
    assert (answer.json["project"], answer.json["mode"]) == (KEY, "inbox")
    assert answer.json["version"] == service.backend.version("cvat", "4") != ""
    assert [(j["id"], j["rank"], j["assignee"]) for j in answer.json["jobs"]] == [
        (10, 1, None),
        (9, 2, "annotator1"),
        (8, None, None),
        (11, None, None),
    ]
    first = answer.json["jobs"][0]
    wanted = ["id", "rank", "value", "reason", "task", "frames", "state", "stage", "assignee", "link"]
    assert list(first) == wanted
    assert (first["frames"], first["state"], first["stage"]) == ([4, 7], "new", "annotation")
    assert first["link"] == "http://cvat.example:8080/tasks/4/jobs/10?frame=5"


def test_a_job_of_a_queue_task_opens_at_its_first_frame(service: Service) -> None:
    service.connected(options={"queue": "task"})
    assert service.client.get(f"/api/jobs?project={KEY}").json["mode"] == "task"
    row = kept(1, sample="4:5", task=77, start=0, stop=9, mode="task")
    service.store.memories.of(KEY).put("job", {"30": row, "31": {**row, "sample": "", "rank": 2}})
    links = [j["link"] for j in service.client.get(f"/api/jobs?project={KEY}").json["jobs"]]
    assert links == [f"http://cvat.example:8080/tasks/77/jobs/{n}?frame=0" for n in (30, 31)]


def test_without_cvats_address_the_jobs_are_shown_without_links(tmp_path: Path) -> None:
    made = Service(tmp_path, cvat_url=None)
    made.store.memories.of(KEY).put("job", {"9": kept(1)})
    assert [j["link"] for j in made.client.get(f"/api/jobs?project={KEY}").json["jobs"]] == [""]
    made.store.close()


def test_links_begin_with_the_address_that_browsers_know(tmp_path: Path) -> None:
    made = Service(tmp_path, cvat_links="https://cvat.example/")
    made.store.memories.of(KEY).put("job", {"9": kept(1)})
    link = made.client.get(f"/api/jobs?project={KEY}").json["jobs"][0]["link"]
    assert link.startswith("https://cvat.example/tasks/")
    made.store.close()


def test_a_limit_shortens_the_list_of_jobs(service: Service) -> None:
    service.store.memories.of(KEY).put("job", {str(n): kept(n) for n in range(1, 6)})
    for limit, length in (("0", 0), ("2", 2), ("100", 5)):
        assert len(service.client.get(f"/api/jobs?project={KEY}&limit={limit}").json["jobs"]) == length
    for limit in ("-1", "x", "", "9" * 30):
        answer = service.client.get(f"/api/jobs?project={KEY}&limit={limit}")
        assert answer.status_code == 400
        assert answer.json == service.client.get(f"/api/queue?project={KEY}&limit={limit}").json


def test_a_project_without_jobs_is_said_as_the_queue_says_it(service: Service) -> None:
    empty = {"project": KEY, "version": "", "mode": "inbox", "jobs": []}
    assert service.client.get(f"/api/jobs?project={KEY}").json == empty
    service.store.memories.of(KEY).put("job", {"9": kept(1)})
    service.store.projects.update(KEY, state="archived")
    assert service.client.get(f"/api/jobs?project={KEY}").json == empty
    service.store.projects.ask("label-studio", "2")
    for query in ("", "?project=4", "?project=cvat:9"):
        ours, queues = (service.client.get(f"/api/{name}{query}") for name in ("jobs", "queue"))
        assert (ours.status_code, ours.json) == (queues.status_code, queues.json)
    answer = service.client.get("/api/jobs?project=label-studio:2")
    assert (answer.status_code, answer.json["error"].endswith("give one of CVAT, such as cvat:4")) == (400, True)


def test_five_thousand_jobs_are_shown_at_once(service: Service) -> None:
    service.store.memories.of(KEY).put("job", {str(n): kept(n) for n in range(1, 5001)})
    answer = service.client.get(f"/api/jobs?project={KEY}")
    assert [j["id"] for j in answer.json["jobs"]] == list(range(1, 5001))


def test_the_queue_has_links_into_cvats_jobs(service: Service) -> None:
    publish(service, "4:5", "4:0")
    items = service.client.get(f"/api/queue?project={KEY}").json["items"]
    assert [(i["id"], i["link"]) for i in items] == [
        ("4:5", "http://cvat.example:8080/tasks/4/jobs/9?frame=5"),
        ("4:0", "http://cvat.example:8080/tasks/4/jobs/9?frame=0"),
    ]


def publish(service: Service, *samples: str) -> None:
    """An active order of these samples."""
    service.connected()
    service.platform.tasks = dict.fromkeys(samples, "0.png")
    service.store.samples.replace(KEY, service.platform.samples())
    places = [Place(i, s, i / 10, 1 - i / 10, {}) for i, s in enumerate(samples, start=1)]
    row = service.store.publications.create(
        KEY, name="hardfirst", round_number=0, checkpoint=None, sha8="0" * 8, places=places, seconds={}
    )
    service.store.publications.activate(row)
