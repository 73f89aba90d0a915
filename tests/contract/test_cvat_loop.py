"""The whole loop beside CVAT: connect, an inbox in priority order, completion, a round, a new order."""

from __future__ import annotations

from pathlib import Path

from tests.contract.cvat_life import Life


def best(life: Life, count: int) -> set[int]:
    """The most valuable jobs that are nobody's or were handed out by us, not counting completed ones."""
    open_ = {j.id for j in life.cvat.world.jobs.values() if j.state != "completed"}
    ranked = sorted((j for j in life.values().items() if j[0] in open_), key=lambda item: (-item[1], item[0]))
    return {job for job, _ in ranked[:count]}


def test_two_annotators_label_the_best_jobs_first_and_a_round_makes_a_new_order(tmp_path: Path) -> None:
    with Life(tmp_path, min_new_labels=20, validation_share=0) as life:
        life.connect()
        life.settle()
        world = life.cvat.world
        assert len(world.jobs) == 40
        handed = {j.id for name in ("anna", "ben") for j in life.inbox(name)}
        assert {len(life.inbox(name)) for name in ("anna", "ben")} == {2}
        assert handed == best(life, 4)
        for _ in range(2):
            for name in ("anna", "ben"):
                job = life.inbox(name)[0]
                life.finish(name, job)
                life.settle()
                assert len(life.inbox(name)) == 2
        row = life.tools.store.projects.get(life.key)
        assert row is not None
        running = life.tools.store.rounds.running(life.key)
        assert running is not None
        assert running.labels + len(running.split["val"]) == 20
        assert life.sources()["manual"] == 20
        first = row.publication
        life.trainer.finish()
        life.settle()
        row = life.tools.store.projects.get(life.key)
        assert row is not None
        assert row.publication != first
        job = life.inbox("anna")[0]
        life.finish("anna", job)
        life.settle()
        held = {j.id for name in ("anna", "ben") for j in life.inbox(name)}
        assert best(life, 1) <= held


def test_our_service_lists_frames_with_links_and_jobs_with_their_assignee(tmp_path: Path) -> None:
    with Life(tmp_path, tasks=1, images=20) as life:
        life.connect()
        life.settle()
        queue = life.http.get(f"/api/queue?project={life.key}").json
        assert queue["total"] == 20
        job = next(
            j
            for j in life.cvat.world.jobs.values()
            if j.start_frame <= int(queue["items"][0]["id"].split(":")[1]) <= j.stop_frame
        )
        frame = queue["items"][0]["id"].split(":")[1]
        assert queue["items"][0]["link"] == f"{life.cvat.url}/tasks/{job.task_id}/jobs/{job.id}?frame={frame}"
        jobs = life.http.get(f"/api/jobs?project={life.key}").json["jobs"]
        assert [j["rank"] for j in jobs] == [1, 2, 3, 4]
        assert {j["assignee"] for j in jobs} == {"anna", "ben"}
        assert jobs[0]["reason"]
