"""Which test file replays or reads each recorded exchange with Label Studio: none is left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.ls_app_service import names

HERE = ("health", "setup", "predict", "versions", "webhook")
"""Recorded exchanges whose names start so are what Label Studio sends to a backend: test_ls_app_*.py replay them."""
ELSEWHERE = {
    "test_ls_wire.py": {
        *("api.task_with_annotations", "api.task_skipped", "api.export_json", "api.tasks_list_slim"),
        *("api.import_predictions_dropped_silently", "api.project_create"),
        *("region.rectanglelabels_rotated", "region.choices"),
    },
    "test_ls_client.py": {
        *("api.ssrf_blocked_error", "api.ml_connect_wrong_password", "api.import_predictions_bad_task_error"),
    },
    "test_ls_replay.py": {
        *("api.ml_connect", "api.ml_list", "api.view_create_ordered", "api.webhook_unknown_event_error"),
        *("api.project_enable_uncertainty", "api.project_model_version_unknown_error"),
        *("api.project_after_delete_model_version", "api.model_versions_extended"),
        *("api.model_versions", "api.delete_model_version"),  # that we never make these
        *("api.import_tasks", "api.next_task_uncertainty"),  # the demo and its annotator
        *("api.next_task_as_displayed", "ui.label_all_tasks", "ui.label_tasks_as_displayed"),  # what our tab causes
    },
}
"""What we send, and what we only read, by the test file that replays it."""
READ_HERE = {
    *("region.rectanglelabels", "region.polygonlabels", "region.keypointlabels", "region.ellipselabels"),
    *("region.brushlabels", "region.videorectangle", "ui.submit_annotation_from_prediction"),
    *("api.annotation_create", "api.export_json_all_tasks", "api.task_with_draft", "api.tasks_list_fields_all"),
    *("api.tasks_list_completed_since", "api.webhook_set_secret_header", "api.webhooks_list_after_connect"),
    *("api.import_predictions", "api.predictions_of_task", "api.train", "api.webhooks_info", "api.ml_versions"),
}
"""Others that test_ls_app_*.py read."""


def test_every_recorded_exchange_stands_once_in_the_table(shared: Path) -> None:
    found = set(names(shared, ""))
    here = {n for n in found if n.startswith(HERE)}
    table = [here, READ_HERE, *ELSEWHERE.values()]
    assert found - set().union(*table) == set()
    assert set().union(*table) - found == set()
    assert sum(map(len, table)) == len(found), "an exchange stands in two places of the table"


@pytest.mark.parametrize("file", ELSEWHERE)
def test_the_other_files_replay_what_the_table_says(file: str) -> None:
    text = (Path(__file__).parent / file).read_text()
    assert [n for n in ELSEWHERE[file] if f'"{n}"' not in text] == []


def test_this_file_reads_what_the_table_says() -> None:
    others = set(Path(__file__).parent.glob("test_ls_app_*.py")) - {Path(__file__)}
    text = "".join(p.read_text() for p in others)
    assert [n for n in READ_HERE if f'"{n}"' not in text] == []
