"""`hardfirst rank` and `hardfirst watch` with real weights on photographs, in real processes."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from common.experiments.journal import Journal

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    """Fourteen photographs, a nearly equal copy of one, and a file cut off."""
    made = tmp_path / "photos"
    made.mkdir()
    for path in sorted((shared / "data" / "bccd" / "images").glob("*.jpg"))[:14]:
        shutil.copy(path, made)
    first = sorted(made.iterdir())[0]
    with Image.open(first) as image:
        image.save(made / "again.jpg", quality=60)
    (made / "cut.jpg").write_bytes(first.read_bytes()[:4000])
    return made


def start(shared: Path, tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith("HARDFIRST_")}
    command = [sys.executable, "-m", "common.cli", words[0], str(tmp_path / "photos"), *words[1:]]
    weights = shared / "weights" / "yolo11n-rebuilt.pt"
    return subprocess.Popen(
        [*command, "--model", str(weights), "--imgsz", "160", "--device", "cpu"],
        cwd=tmp_path,
        env=known | {"PYTHONPATH": str(ROOT), "HARDFIRST_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_folder_is_ranked_and_a_second_time_nothing_is_scored(shared: Path, tmp_path: Path, folder: Path) -> None:
    first = sorted(folder.iterdir())[0]
    (tmp_path / "done.txt").write_text(f"{first.name}\n")
    words = ("rank", "--labelled", "done.txt", "--out", "order.csv", "--sheet", "sheet.jpg", "--json")
    reports = []
    for _ in range(2):
        process = start(shared, tmp_path, *words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        reports.append((json.loads(out), (tmp_path / "order.csv").read_bytes()))
    (one, order), (again, same) = reports
    assert (one["scored"], one["cached"], len(one["unreadable"])) == (15, 0, 1)
    assert (again["scored"], again["cached"]) == (0, 15)
    assert order == same
    with (tmp_path / "order.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert [Path(r["path"]).name for r in rows[-2:]] == ["again.jpg", "cut.jpg"]
    assert rows[-2]["duplicate_of"] == rows[-2]["nearest_labelled"] == str(first)
    assert "damaged" in rows[-1]["problem"]
    assert any(int(r["boxes"] or 0) for r in rows)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.format == "JPEG"


def test_a_watch_that_is_killed_decides_every_image_once(shared: Path, tmp_path: Path, folder: Path) -> None:
    journal = Journal(tmp_path / "queue.csv")
    process = start(shared, tmp_path, "watch", "--interval", "0.3")
    until = time.monotonic() + 120
    while not journal.lines() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = journal.lines()
    assert before
    shutil.copy(sorted(folder.iterdir())[3], folder / "twin.jpg")
    again = start(shared, tmp_path, "watch", "--once")
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "15 images decided" in out
    assert journal.lines()[: len(before)] == before
    assert set(Counter(line.sha256 for line in journal.lines()).values()) == {1}
    by = {Path(line.path).name: (line.by, line.queued) for line in journal.lines()}
    assert by["again.jpg"] == ("duplicate", "no")
    before = journal.path.read_bytes()
    other = start(shared, tmp_path, "watch", "--once", "--acquisition", "margin")
    assert "made with --acquisition entropy (now margin)" in other.communicate(timeout=120)[1]
    assert (other.returncode, journal.path.read_bytes()) == (2, before)


def test_other_weights_take_part_by_their_path_and_unsafe_ones_do_not(
    shared: Path, tmp_path: Path, folder: Path
) -> None:
    from common.yolo import offline, weights

    offline.prepare(tmp_path / "home")
    for path in sorted(folder.iterdir())[2:]:
        path.unlink()
    other = weights.load_model(shared / "weights" / "yolo11n-rebuilt.pt")
    next(other.parameters()).data[0] += 0.01
    import torch

    (tmp_path / "elsewhere").mkdir()
    torch.save({"model": other.half(), "train_args": {}}, tmp_path / "elsewhere" / "other.pt")
    (tmp_path / "elsewhere" / "broken.pt").write_bytes(b"PK\x03\x04 no weights")
    words = ("rank", "--acquisition", "vote_entropy", "--out", "order.csv", "--json", "--committee")
    process = start(shared, tmp_path, *words, "elsewhere/other.pt")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["scored"] == 2
    process = start(shared, tmp_path, *words, "elsewhere/broken.pt")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "broken.pt is cut short, damaged or of another kind" in err
