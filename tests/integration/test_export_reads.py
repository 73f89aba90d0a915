"""What ultralytics makes of an export: the images and labels of both sides, wherever the folder was moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from common.domain import Label, LabelledBox
from common.export import LabelledSet, write_export
from common.ports import TrainingSample
from tests.fakes import picture

pytestmark = pytest.mark.integration

CAT = LabelledBox("cat", (0.1, 0.1, 0.5, 0.5))


@pytest.mark.parametrize("links", [False, True])
def test_ultralytics_reads_an_export_from_anywhere(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    samples = []
    for i in range(5):
        picture(tmp_path / f"{i}.png", i)
        samples.append(TrainingSample(str(i), tmp_path / f"{i}.png", Label(str(i), (CAT,) if i else ())))
    found = LabelledSet(1, 1, ("dog", "cat"), samples[:3], samples[3:], held=0, missing=0)
    write_export(found, tmp_path / "out", {}, links=links)
    shutil.move(tmp_path / "out", tmp_path / "images and more")
    monkeypatch.chdir("/")

    data = check_det_dataset(str(tmp_path / "images and more/data.yaml"), autodownload=False)
    assert data["names"] == {0: "dog", 1: "cat"}
    for split, count in (("train", 3), ("val", 2)):
        read = YOLODataset(data[split], data=data, task="detect", augment=False)
        assert len(read) == count
        boxes = [label["cls"].ravel().tolist() for label in read.labels]
        assert sorted(boxes) == sorted([[1.0]] * (count - (split == "train")) + [[]] * (split == "train"))
