"""Label configs: what is served, under which names, and what is refused in one sentence."""

from __future__ import annotations

import pytest
from label_studio_sdk.label_interface import LabelInterface

from common.domain import ClassMapping
from common.errors import UnsupportedProjectError
from ls_backend.label_config import parse, rectangles


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


IMAGE = '<Image name="img" value="$photo"/>'


def control(labels: str = '<Label value="Car"/>', name: str = "box", **attributes: str) -> str:
    extra = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<RectangleLabels name="{name}" toName="img"{extra}>{labels}</RectangleLabels>'


def test_classes_keep_the_order_of_the_config_and_the_names_a_model_may_use() -> None:
    labels = '<Label value="Vehicle" predicted_values="car, truck,,car"/><Label value="Dog"/>'

    spec = parse(view(IMAGE, control(labels)), title="Floor")

    assert spec.classes == (ClassMapping("Vehicle", ("car", "truck")), ClassMapping("Dog"))
    assert (spec.title, spec.show_from, spec.model_path) == ("Floor", 0.5, "")
    assert (spec.details["image"], spec.details["to_name"]) == ("photo", "img")
    assert spec.details["control"] == {"Vehicle": "box", "Dog": "box"}


def test_a_config_made_from_names_is_read_as_these_names() -> None:
    names = ("gear", 'quoted "name"', "a < b & c", *(f"class {i}" for i in range(9)))
    config = rectangles(names)

    assert parse(config).names == names
    assert set(LabelInterface(config).get_control("label").labels) == set(names)
    assert [f'hotkey="{key}"' in config for key in (1, 9, 10)] == [True, True, False]


def test_an_alias_is_the_name_that_results_carry() -> None:
    config = view(IMAGE, control('<Label value="A long name" alias="short"/>'))

    assert parse(config).names == ("short",)
    assert set(LabelInterface(config).get_control("box").labels) == {"short"}


@pytest.mark.parametrize("name", ["model_score_threshold", "score_threshold"])
def test_the_threshold_of_a_control_wins_over_the_setting(name: str) -> None:
    assert parse(view(IMAGE, control(**{name: "0.2"})), show_from=0.7).show_from == 0.2
    assert parse(view(IMAGE, control()), show_from=0.7).show_from == 0.7


def test_the_first_of_both_threshold_names_wins() -> None:
    assert parse(view(IMAGE, control(model_score_threshold="0.3", score_threshold="0.9"))).show_from == 0.3


def test_several_controls_are_one_class_list_and_each_class_remembers_its_control() -> None:
    first = control('<Label value="Car"/><Label value="Dog"/>', "one", model_score_threshold="0.6")
    second = control('<Label value="Dog" predicted_values="hound"/><Label value="Cat"/>', "two", model_path="cat.pt")

    spec = parse(view(IMAGE, first, second), show_from=0.4)

    assert spec.classes == (ClassMapping("Car"), ClassMapping("Dog", ("hound",)), ClassMapping("Cat"))
    assert spec.details["control"] == {"Car": "one", "Dog": "one", "Cat": "two"}
    assert spec.details["controls"] == {"one": ["Car", "Dog"], "two": ["Dog", "Cat"]}
    assert spec.details["show_from"] == {"Car": 0.6, "Dog": 0.6, "Cat": 0.4}
    assert (spec.show_from, spec.model_path) == (0.4, "cat.pt")


def test_a_control_marked_model_skip_is_left_out() -> None:
    spec = parse(view(IMAGE, control(name="used"), control('<Label value="Hand"/>', "theirs", model_skip="true")))

    assert spec.names == ("Car",)
    assert spec.details["skipped"] == ["theirs"]


def test_other_controls_are_known_as_not_ours() -> None:
    choices = '<Choices name="day" toName="img"><Choice value="Day"/></Choices>'
    polygons = '<PolygonLabels name="poly" toName="img"><Label value="Road"/></PolygonLabels>'

    spec = parse(view(IMAGE, choices, polygons, control()))

    assert spec.names == ("Car",)
    assert spec.details["others"] == ["day", "poly"]


def test_labels_may_be_wrapped_and_controls_nested() -> None:
    wrapped = control('<View><Label value="Car"/></View>')
    assert parse(view(f'<View style="x">{IMAGE}</View>', f"<View>{wrapped}</View>")).names == ("Car",)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("", "cannot be read"),
        ("<View>", "cannot be read"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>', "cannot be read"),
        ("<View></View>", "0 Image tags"),
        (view(IMAGE, IMAGE.replace("img", "img2"), control()), "2 Image tags"),
        (view('<Image name="img" valueList="$photos"/>', control()), "lists of images"),
        (view('<Video name="img" value="$video"/>', control()), "a Video tag"),
        (view('<Image name="img" value="http://x/1.jpg"/>', control()), 'like value="\\$image"'),
        (view(IMAGE, '<Choices name="c" toName="img"><Choice value="A"/></Choices>'), "no RectangleLabels"),
        (view(IMAGE, control().replace('toName="img"', 'toName="other"')), "no RectangleLabels"),
        (view(IMAGE, control(labels="")), "'box' has no Label"),
        (view(IMAGE, control(labels="", value="$labels")), "labels taken from task data"),
        (view(IMAGE, control(model_skip="true")), "model_skip"),
        (view(IMAGE, control(model_score_threshold="high")), "must be a number from 0 to 1"),
        (view(IMAGE, control(model_score_threshold="1.5")), "must be a number from 0 to 1"),
        (view(IMAGE, control(model_score_threshold="nan")), "must be a number from 0 to 1"),
    ],
)
def test_what_is_not_served_is_refused_in_one_sentence(config: str, says: str) -> None:
    with pytest.raises(UnsupportedProjectError, match=says) as caught:
        parse(config)
    assert "\n" not in str(caught.value)
