from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.domain import ClassMapping, Event, LabelledBox, ProjectSpec, QueueItem
from common.loop import ActiveLearningLoop
from common.loop.publishing import columns
from common.loop.reading import labels_at
from common.ports import Drift
from tests.fakes import FakeModels, World, make_world, picture, settle

KEY = "fake:1"
CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def label(world: World, count: int, *, tell: bool = True) -> list[str]:
    """A person labels the next tasks in the order served."""
    done = []
    world.clock[0] += 1
    for _ in range(count):
        task = world.platform.order()[0]
        world.platform.annotate(task, CAT)
        done.append(task)
        if tell:
            world.tools.store.inbox.add(Event("fake", "1", "labels", (task,)))
    return done


def trained_round(world: World) -> None:
    """Enough labels, a pause, a training that ends well, and the new order."""
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.trainer.finish()
    settle(world)


def test_a_connected_project_is_scored_ordered_and_published_once(world: World) -> None:
    settle(world)
    assert world.platform.active == "hardfirst@0.1-00000000"
    assert sorted(world.platform.order()) == sorted(world.platform.tasks)
    calls = len(world.platform.calls)
    settle(world)
    assert "publish" not in world.platform.calls[calls:]


def test_the_queue_the_service_shows_is_the_queue_the_platform_serves(world: World) -> None:
    settle(world)
    project = world.tools.store.projects.get(KEY)
    assert project is not None
    assert project.publication is not None
    publication = world.tools.store.publications.get(project.publication)
    places, total = world.tools.store.publications.open_places(publication)
    assert [p.sample for p in places] == world.platform.order()
    assert total == len(world.platform.tasks)


def test_the_best_block_is_active_before_the_rest_is_sent(world: World) -> None:
    settle(world)
    first_switch = world.platform.calls.index("activate")
    assert world.platform.calls[:first_switch].count("publish") == 1
    assert world.platform.calls[first_switch:].count("publish") == 2


def test_boxes_of_classes_the_model_knows_are_shown_and_others_are_not(world: World) -> None:
    settle(world)
    rows = world.platform.rows[world.platform.active or ""]
    names = {b.name for item in rows.values() for b in item.boxes}
    assert names == {"cat"}
    assert all(b.score >= 0.5 for item in rows.values() for b in item.boxes)


def test_a_model_that_knows_no_class_shows_no_box_and_still_orders(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.platform.classes = (ClassMapping("scratch"),)
    settle(world)
    rows = world.platform.rows[world.platform.active or ""]
    assert len(rows) == 12
    assert all(item.boxes == () for item in rows.values())


def test_without_any_weights_the_queue_is_a_cold_start_and_no_model_runs(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    world.tools.models = FakeModels(usable=False)
    settle(world)
    assert len(world.platform.order()) == 12
    assert world.tools.models.seen == []
    assert ("warning", "no weights") in [(e.level, e.text) for e in world.tools.store.journal.newest(KEY)]


def test_a_project_that_nobody_added_us_to_is_left_alone(world: World) -> None:
    world.platform.listed = False
    loop = ActiveLearningLoop(world.tools)
    loop.step(KEY)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert row.state == "asked"
    world.clock[0] = time.time() + 1000
    loop.step(KEY)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert row.state == "archived"
    assert "publish" not in world.platform.calls


def test_an_unchanged_image_is_never_scored_twice_by_the_same_model(world: World) -> None:
    settle(world)
    world.tools.store.projects.update(KEY, order_asked=world.clock[0])
    settle(world)
    assert sorted(world.models.seen) == sorted(f"{i}.png" for i in range(12))


def test_an_unreadable_image_is_reported_stands_last_and_stops_nothing(world: World) -> None:
    world.platform.tasks["999"] = "absent.png"
    settle(world)
    assert world.platform.order()[-1] == "999"
    problems = world.tools.store.samples.problems(KEY)
    assert [p.external for p in problems] == ["999"]


def test_enough_labels_and_a_pause_train_promote_and_reorder(world: World) -> None:
    settle(world)
    first = world.platform.active
    trained_round(world)
    assert world.platform.active == "hardfirst@1.2-11111111"
    assert world.platform.active != first
    assert len(world.platform.order()) == 9


def test_a_round_trains_on_exactly_the_labels_of_its_revision(world: World) -> None:
    settle(world)
    done = label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    late = label(world, 1)
    settle(world)
    assert sorted(s.id for s in world.trainer.samples[-1]) == sorted(done)
    assert late[0] not in done


def test_a_label_that_arrives_during_training_lands_in_the_next_round(world: World) -> None:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    label(world, 3)
    settle(world)
    world.trainer.finish()
    settle(world)
    world.clock[0] += 61
    settle(world)
    assert len(world.trainer.samples[-1]) == 6


def test_labels_that_were_there_before_connecting_start_round_one_at_once(world: World) -> None:
    for task in ("100", "101", "102"):
        world.platform.annotate(task, CAT)
    settle(world)
    assert len(world.trainer.started) == 1


def test_start_training_is_heard_at_once(world: World) -> None:
    settle(world)
    label(world, 1)
    world.tools.store.inbox.add(Event("fake", "1", "train"))
    settle(world)
    assert len(world.trainer.started) == 1


def test_lost_webhooks_are_made_good_by_the_next_comparison(world: World) -> None:
    settle(world)
    label(world, 5, tell=False)
    world.clock[0] += 1000
    settle(world)
    assert world.tools.store.samples.counts(KEY)["answered"] == 5


def test_a_deleted_answer_leaves_training_and_returns_to_the_queue(world: World) -> None:
    settle(world)
    task = label(world, 1)[0]
    settle(world)
    answer = world.platform.answers.pop(task)[0]
    world.tools.store.inbox.add(Event("fake", "1", "labels", (), (answer.id,)))
    settle(world)
    assert world.tools.store.labels.at(KEY) == {}
    assert world.tools.store.samples.counts(KEY)["answered"] == 0


def test_the_label_of_an_image_that_went_and_came_back_trains_again(world: World) -> None:
    settle(world)
    task = label(world, 2)[0]
    settle(world)
    uri = world.platform.tasks.pop(task)
    for expected in ({task}, set[str]()):
        world.clock[0] += 1000
        settle(world)
        row = world.tools.store.projects.get(KEY)
        assert row is not None
        assert set(world.platform.answers) - set(labels_at(world.tools, row)) == expected
        world.platform.tasks[task] = uri


def test_a_project_that_was_forgotten_and_comes_again_trains_on_no_label_of_before(world: World) -> None:
    settle(world)
    old = label(world, 2)
    settle(world)
    world.tools.store.forget(KEY)
    for task in old:
        del world.platform.answers[task]
    world.tools.store.projects.ask("fake", "1")
    settle(world)
    (new,) = sorted(set(world.platform.tasks) - set(old))[:1]
    world.platform.annotate(new, CAT)
    world.tools.store.inbox.add(Event("fake", "1", "labels"))
    settle(world)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert set(labels_at(world.tools, row)) == {new}


def test_labelled_images_that_cannot_be_read_are_counted_when_a_round_starts(world: World) -> None:
    settle(world)
    unread = label(world, 5, tell=False)[0]
    (world.folder / "pictures" / world.platform.tasks[unread]).unlink()
    world.platform.tasks[unread] += "?exchanged"
    world.clock[0] += 1000
    settle(world)
    world.clock[0] += 61
    settle(world)
    assert unread not in {s.id for s in world.trainer.samples[-1]}
    told = "\n".join(e.text for e in world.tools.store.journal.newest(KEY))
    assert "1 labelled images cannot be read and are left out" in told


def test_a_failed_round_says_why_and_the_former_model_keeps_serving(world: World) -> None:
    settle(world)
    before = world.platform.active
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.trainer.finish("failed", "the disk is full")
    settle(world)
    newest = world.tools.store.rounds.newest(KEY)
    assert newest is not None
    assert (newest.state, newest.message) == ("failed", "the disk is full")
    assert world.platform.active == before
    assert len(world.trainer.started) == 1


def test_a_data_set_that_cannot_be_written_fails_the_round_with_its_reason(world: World) -> None:
    settle(world)
    world.trainer.refuses = "there is nothing to train on"
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    newest = world.tools.store.rounds.newest(KEY)
    assert newest is not None
    assert (newest.state, newest.message) == ("failed", "there is nothing to train on")


def test_a_lost_training_is_resumed_under_the_same_number(world: World) -> None:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.trainer.finish("lost")
    ActiveLearningLoop(world.tools).step(KEY)
    assert [s.folder.name for s in world.trainer.started] == ["1", "1"]
    assert world.trainer.samples[0] == world.trainer.samples[1]


def test_the_result_of_another_training_is_never_promoted(world: World) -> None:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    running = world.tools.store.rounds.running(KEY)
    assert running is not None
    world.tools.store.rounds.update(running.id, token=running.token + 1)
    world.trainer.finish()
    settle(world)
    assert world.models.installed == 0


def test_rows_the_platform_swallowed_keep_the_former_queue(world: World) -> None:
    settle(world)
    before = world.platform.active
    world.platform.swallow = 1
    world.tools.store.projects.update(KEY, order_asked=world.clock[0])
    loop = ActiveLearningLoop(world.tools)
    for _ in range(5):
        loop.step(KEY)
    assert world.platform.active == before
    world.platform.swallow = 0
    world.clock[0] += 200
    settle(world)
    assert world.platform.active != before
    assert len(world.platform.order()) == 12


@pytest.mark.parametrize("arrived", [True, False])
def test_a_block_that_was_cut_off_is_neither_lost_nor_sent_twice(world: World, arrived: bool) -> None:
    settle(world)
    world.tools.store.projects.update(KEY, order_asked=world.clock[0])
    loop = ActiveLearningLoop(world.tools)
    while (row := world.tools.store.publications.unfinished(KEY)) is None or row.rows == 0:
        loop.step(KEY)
    places = world.tools.store.publications.places(row.id, row.sent, 5)
    world.tools.store.publications.update(row.id, in_flight=len(places), upto=row.sent + len(places))
    if arrived:  # the answer never reached us, the rows did
        world.platform.publish(row.version, [QueueItem(p.sample, p.place) for p in places])
    sent_before = world.platform.calls.count("publish")
    settle(world)
    assert world.platform.active == row.version
    assert len(world.platform.rows[row.version]) == 12
    assert world.platform.calls.count("publish") - sent_before == (1 if arrived else 2)


def test_a_block_of_crowded_images_is_cut_to_what_one_call_carries(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.loop.publishing.MAX_BOXES", 1)
    settle(world)
    shown = [len(i.boxes) for i in world.platform.rows[world.platform.active or ""].values()]
    assert len(shown) == 12
    assert sum(shown) > 2
    assert world.platform.calls.count("publish") >= sum(shown)


def test_versions_a_forgotten_project_left_there_are_not_used_again(world: World) -> None:
    world.platform.rows["hardfirst@3.7-abcd1234"] = {"100": QueueItem("100", 0.5)}
    settle(world)
    assert world.platform.active == "hardfirst@0.8-00000000"


def test_only_our_old_versions_are_deleted_and_the_newest_two_stay(tmp_path: Path) -> None:
    world = make_world(tmp_path, keep_publications=2)
    world.platform.rows["someone-else@1"] = {}
    world.platform.publish("someone-else@1", [])
    for _ in range(4):
        world.tools.store.projects.update(KEY, order_asked=world.clock[0])
        settle(world)
    ours = [v for v in world.platform.rows if v.startswith("hardfirst@")]
    assert ours == ["hardfirst@0.3-00000000", "hardfirst@0.4-00000000"]
    assert "someone-else@1" in world.platform.rows


def test_no_row_is_deleted_while_people_are_labelling(world: World) -> None:
    settle(world)
    for _ in range(3):
        world.tools.store.projects.update(KEY, order_asked=world.clock[0])
        label(world, 1)
        settle(world)
    assert "retire" not in world.platform.calls


def test_an_hour_of_quiet_forgets_what_retired_checkpoints_said_and_nothing_else(tmp_path: Path) -> None:
    world = make_world(tmp_path, keep_checkpoints=2)
    settle(world)
    predictions = world.tools.store.predictions
    predictions.put("f" * 64, 640, list(predictions.get("0" * 64, 640, hashes(world)).items()))
    for _ in range(3):
        trained_round(world)
    loop = ActiveLearningLoop(world.tools)
    world.clock[0] += 3700
    while loop.step(KEY):
        pass
    trained = [c.sha256 for c in world.tools.store.rounds.checkpoints(KEY)]
    kept = [sha for sha in trained if predictions.have(sha, 640)]
    assert kept == trained[-2:]
    assert len(predictions.have("0" * 64, 640)) == 12
    assert len(predictions.have("f" * 64, 640)) == 12, "somebody else asked these weights"


def hashes(world: World) -> list[str]:
    return [s.sha256 for s in world.tools.store.samples.all(KEY) if s.sha256]


def test_a_new_image_takes_its_place_in_the_queue(world: World) -> None:
    settle(world)
    picture(world.folder / "pictures" / "new.png", 99)
    world.platform.tasks["500"] = "new.png"
    world.tools.store.inbox.add(Event("fake", "1", "samples"))
    settle(world)
    assert "500" in world.platform.order()


def test_a_platform_that_is_down_is_tried_again_and_nothing_is_lost(world: World) -> None:
    settle(world)
    label(world, 2)
    world.platform.down = True
    loop = ActiveLearningLoop(world.tools)
    assert loop.step(KEY) is False
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert row.reason == "the platform does not answer"
    world.platform.down = False
    world.clock[0] += 200
    settle(world)
    assert world.tools.store.samples.counts(KEY)["answered"] == 2


def test_a_project_that_is_gone_is_archived_and_its_training_ends(world: World) -> None:
    settle(world)
    label(world, 3)
    settle(world)
    world.clock[0] += 61
    settle(world)
    world.tools.store.projects.update(KEY, training_asked=1.0, way_back={"round": 1, "asked": 1.0})
    world.platform.gone = True
    world.clock[0] += 1000
    ActiveLearningLoop(world.tools).step(KEY)
    row = world.tools.store.projects.get(KEY)
    newest = world.tools.store.rounds.newest(KEY)
    assert row is not None
    assert newest is not None
    assert (row.state, newest.state) == ("archived", "cancelled")
    assert (row.training_asked, row.way_back) == (None, {}), "what was asked of it is not done when it comes again"


def test_a_setting_a_person_changed_stops_the_project_until_it_is_put_back(world: World) -> None:
    settle(world)
    world.platform.drifts = [Drift("sampling was set to sequential", healed=False, fix="set it back or disconnect")]
    world.clock[0] += 1000
    ActiveLearningLoop(world.tools).step(KEY)
    row = world.tools.store.projects.get(KEY)
    assert row is not None
    assert (row.state, row.reason) == (
        "stopped",
        "sampling was set to sequential: set it back or disconnect",
    )
    world.platform.drifts = []
    world.clock[0] += 1000
    settle(world)
    again = world.tools.store.projects.get(KEY)
    assert again is not None
    assert again.state == "active"


def test_boxes_of_a_removed_class_leave_training_and_nothing_is_deleted(tmp_path: Path) -> None:
    world = make_world(tmp_path, pause_s=5000)
    settle(world)
    label(world, 2)
    other = world.platform.order()[-1]
    world.platform.annotate(other, CAT)
    world.tools.store.inbox.add(Event("fake", "1", "labels", (other,)))
    settle(world)
    world.platform.classes = (ClassMapping("dog"),)
    world.clock[0] += 1000
    settle(world)
    world.clock[0] += 5000
    settle(world)
    assert world.trainer.started == []
    assert len(world.tools.store.labels.at(KEY)) == 3
    assert any("no longer train" in e.text for e in world.tools.store.journal.newest(KEY))


def test_predicted_values_map_classes_and_a_name_of_its_own_maps_itself() -> None:
    world_classes = (ClassMapping("Car", ("car", "truck")), ClassMapping("Person"), ClassMapping("scratch"))
    mapped = columns(ProjectSpec("", world_classes), ("person", "car", "bus", "truck"))
    assert mapped == {"Car": [1, 3], "Person": [0]}
