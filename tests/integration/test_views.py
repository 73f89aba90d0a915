"""Second looks: what they say of the boxes the detector kept, with answers that are known beforehand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from common.errors import UnknownNameError
from common.yolo.views import GREY, Answer, Views, halved, mirrored

pytestmark = pytest.mark.integration

BOXES = torch.tensor([[10.0, 20, 40, 60], [50, 8, 90, 30]])
SCORES = torch.tensor([[0.9, 0.1], [0.2, 0.6]])
NOTHING = (torch.zeros(0, 4), torch.zeros(0, 2))
X = torch.zeros(1, 3, 64, 96)


def says(*answers: tuple[Tensor, Tensor]) -> Answer:
    return lambda _x: list(answers)


def seeing(x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """A detector that finds the bright rectangle of each image; its score is how bright it is."""
    found = []
    for image in x.mean(1):
        rows, columns = (image > 0.5).any(1).nonzero().view(-1), (image > 0.5).any(0).nonzero().view(-1)
        if not len(rows):
            found.append((torch.zeros(0, 4), torch.zeros(0, 1)))
            continue
        box = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()[None]
        found.append((box, image.max().view(1, 1)))
    return found


def painted(*boxes: tuple[int, int, int, int]) -> Tensor:
    """One image of 64 x 96 per box."""
    x = torch.zeros(len(boxes), 3, 64, 96)
    for image, (x1, y1, x2, y2) in zip(x, boxes, strict=True):
        image[:, y1:y2, x1:x2] = 0.8
    return x


@pytest.mark.parametrize("name", ["flip", "half"])
def test_a_detector_that_does_not_care_finds_every_object_where_it_was(name: str) -> None:
    x = painted((8, 16, 40, 48), (50, 4, 90, 30), (0, 0, 0, 0))
    kept = seeing(x)
    looks = Views([name]).look(seeing, x, [b for b, _ in kept], [s for _, s in kept], None)
    for look, (_, scores) in zip(looks, kept, strict=True):
        assert look.committee is not None
        torch.testing.assert_close(look.committee, scores[None])
    if name == "flip":
        assert [look.flip_iou.tolist() for look in looks if look.flip_iou is not None] == [[1.0], [1.0], []]
        assert torch.equal(looks[0].flip_scores, kept[0][1])  # type: ignore[arg-type]
    else:
        assert all(look.flip_iou is None and look.flip_scores is None for look in looks)


def test_what_the_mirrored_view_loses_has_no_overlap_and_no_score() -> None:
    half = says((mirrored(BOXES[:1], 96), SCORES[:1]))
    (look,) = Views(["flip"]).look(half, X, [BOXES], [SCORES], None)
    assert look.flip_iou is not None
    assert look.flip_iou.tolist() == [1, 0]
    assert torch.equal(look.flip_scores, SCORES * torch.tensor([[1], [0]]))  # type: ignore[arg-type]


def test_members_stand_in_the_order_of_the_names_and_then_of_the_checkpoints() -> None:
    heads = [torch.stack([SCORES * 0.5, SCORES * 0.25])]
    member = says((BOXES, SCORES * 0.75))
    views = Views(["heads", "flip"], [member, says(NOTHING)])
    (look,) = views.look(says((mirrored(BOXES, 96), SCORES)), X, [BOXES], [SCORES], heads)
    assert look.committee is not None
    wanted = torch.stack([SCORES * 0.5, SCORES * 0.25, SCORES, SCORES * 0.75, SCORES * 0])
    torch.testing.assert_close(look.committee, wanted)


def test_without_names_and_members_nothing_runs() -> None:
    def never(_x: Tensor) -> list[tuple[Tensor, Tensor]]:
        raise AssertionError("a second pass")

    (look,) = Views([]).look(never, X, [BOXES], [SCORES], None)
    assert (look.flip_iou, look.flip_scores, look.committee) == (None, None, None)


@pytest.mark.parametrize("names", [["flip"], ["half"], ["heads"], ["flip", "half", "heads"]])
def test_an_image_without_boxes_gets_evidence_about_none(names: list[str]) -> None:
    views = Views(names, [says((BOXES, SCORES))])
    (look,) = views.look(says((BOXES, SCORES)), X, [NOTHING[0]], [NOTHING[1]], [torch.zeros(3, 0, 2)])
    assert look.committee is not None
    assert look.committee.shape[1:] == (0, 2)
    assert (look.flip_iou is not None) == ("flip" in names)


def test_mirroring_twice_is_no_change() -> None:
    torch.testing.assert_close(mirrored(mirrored(BOXES, 96), 96), BOXES)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 320), (32, 32)])
def test_half_the_size_is_padded_to_whole_strides_and_scales_back(height: int, width: int) -> None:
    small, scale = halved(torch.ones(2, 3, height, width))
    assert all(side % 32 == 0 for side in small.shape[2:])
    assert (small[:, :, : height // 2, : width // 2] == 1).all()
    torch.testing.assert_close(small[:, :, height // 2 :], torch.full_like(small[:, :, height // 2 :], GREY))
    assert scale == (2, 2, 2, 2)


def wrong_name(_: object) -> Views:
    return Views(["flop"])


def wrong_columns(_: object) -> object:
    return Views([], [says((BOXES, SCORES[:, :1]))]).look(says(NOTHING), X, [BOXES], [SCORES], None)


def no_heads(_: object) -> object:
    return Views(["heads"]).look(says(NOTHING), X, [BOXES], [SCORES], None)


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (wrong_name, UnknownNameError, r"no view 'flop'; there are \['flip', 'half', 'heads'\]"),
        (wrong_columns, ValueError, "1 classes, the detector of 2"),
        (no_heads, ValueError, "needs the class scores"),
    ],
)
def test_what_cannot_be_looked_at_is_said(act: Callable[[object], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        act(None)
