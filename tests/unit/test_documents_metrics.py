"""/metrics keeps Prometheus' conventions; docs/metrics.md and the dashboard name what is there, and all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from common.store.measurements import MeasurementRow
from common.web.metrics import ProjectMetrics, observe
from tests.fakes import World, make_world
from tests.test_docs import table
from tests.unit.test_measures import KEY, T0, answer, box, finish_round, order

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((DOCS / "grafana-dashboard.json").read_text())
SERVERS = {"job", "instance"}
"""Labels that Prometheus adds to everything it scrapes."""
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"}
"""Of the client library, on Linux."""
SUFFIXES: dict[str, dict[str, set[str]]] = {"histogram": {"_bucket": {"le"}, "_sum": set(), "_count": set()}}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What Prometheus reads of a project with an answer, a measured round and a webhook."""
    world: World = make_world(tmp_path_factory.mktemp("metrics"))
    order(world, T0)
    answer(world, 0, T0 + 60, box("prediction"), lead_time=12.0)
    finish_round(world, 20, T0, 60)
    measured = {f"map{kind}{end}": 0.5 for kind in ("50", "5095") for end in ("", "_low", "_high")}
    row = MeasurementRow(KEY, 1, "checkpoint", 1, "1" * 64, 20, 40, 0, measured, T0)
    world.tools.store.measurements.add([row])
    observe("webhook", 200, 0.01)
    yield ProjectMetrics(world.tools).exposition()[0].decode()
    world.tools.store.close()


Families = dict[str, tuple[str, set[str]]]


def ours(text: str) -> Families:
    """Family -> (type, labels that its samples have), of hardfirst alone."""
    found = [f for f in text_string_to_metric_families(text) if f.name.startswith("hardfirst_")]
    kept = [f for f in found if not f.name.endswith("_created")]
    return {f.name: (f.type, {label for s in f.samples for label in s.labels} - {"le"}) for f in kept}


def documented() -> dict[str, tuple[str, set[str]]]:
    rows = [*table(PAGE, "Of each project"), *table(PAGE, "Of the service")]
    return {row[0]: (row[1], set(re.findall(r"\w+", row[2]))) for row in rows}


def shown_name(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def test_the_page_lists_every_metric_with_its_type_and_labels_and_no_other(text: str) -> None:
    there = {shown_name(name, kind): (kind, labels) for name, (kind, labels) in ours(text).items()}
    listed = documented()
    assert sorted(listed) == sorted(there)
    assert [n for n, (kind, _) in there.items() if listed[n][0] != kind] == []
    assert [n for n, (_, labels) in there.items() if labels and listed[n][1] != labels] == []


def test_names_and_units_keep_the_conventions(text: str) -> None:
    units = re.compile(r"_(ms|milliseconds|minutes|hours|days|percent|kb|mb|gb|kilobytes|megabytes)\b")
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name), family.name
        assert not units.search(family.name), family.name
        assert family.documentation or family.name.endswith("_created"), family.name
        assert family.documentation[-1:] != "." or not family.name.startswith("hardfirst_")
        if family.type not in ("histogram", "summary"):
            assert not {"le", "quantile"} & {label for s in family.samples for label in s.labels}, family.name
        if family.type != "counter":
            assert not family.name.endswith("_total"), family.name


def samples() -> dict[str, set[str]]:
    """Name of a sample, as an expression writes it -> labels it may be asked by."""
    found = dict.fromkeys(PROCESS, SERVERS)
    for name, (kind, labels) in documented().items():
        for suffix, more in SUFFIXES.get(kind, {"": set()}).items():
            found[name + suffix] = labels | more | SERVERS
    return found


def plain(expression: str) -> str:
    """Grafana's variables in place, as Grafana would put them."""
    return re.sub(r"\$\w+", "x", expression.replace("$__rate_interval", "5m"))


def asked(expression: str) -> list[tuple[str, set[str]]]:
    """(name, labels in its braces) of everything that an expression reads. Raises ValueError where it is no PromQL."""
    found: list[tuple[str, set[str]]] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name or "", {m.name for m in node.matchers.matchers}))

    promql_parser.walk(promql_parser.parse(plain(expression)), visit)
    return found


def grouped(expression: str) -> set[str]:
    return {n for names in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for n in re.split(r", *", names)}


def wrong(expression: str, known: dict[str, set[str]]) -> list[str]:
    """What an expression reads and is not there, or groups by and is a label of nothing it reads."""
    read = asked(expression)
    lost = [name for name, labels in read if name not in known or not labels <= known[name]]
    labels = {label for name, _ in read for label in known.get(name, set())}
    return lost + sorted(grouped(expression) - labels)


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


EXPRESSIONS = [(p["title"], t["expr"]) for p in panels() for t in p["targets"]]
QUERIES = re.findall(r"^(?!#)\S.*$", "\n".join(re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)), re.MULTILINE)


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_panel_asks_for_what_is_there(title: str, expression: str) -> None:
    assert wrong(expression, samples()) == [], title


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_page_asks_for_what_is_there(query: str) -> None:
    assert wrong(query, samples()) == []


def test_the_panels_leave_nothing_out() -> None:
    shown = {name for _, expression in EXPRESSIONS for name, _ in asked(expression)}
    all_read = {re.sub(r"_bucket$", "", name) for name in shown} | set(
        re.findall(r"label_values\((\w+)", json.dumps(DASHBOARD))
    )
    assert set(documented()) - all_read == {"hardfirst_round", "hardfirst_labels_saved_ratio"}


def test_legends_and_variables_name_labels_that_there_are() -> None:
    known = samples()
    for panel in panels():
        for target in panel["targets"]:
            labels = {label for name, _ in asked(target["expr"]) for label in known[name]}
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]
    variables = DASHBOARD["templating"]["list"]
    assert [v["name"] for v in variables] == ["datasource", "job", "project"]
    for variable in variables[1:]:
        name, label = re.fullmatch(r"label_values\((\w+)(?:{.*})?, (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        assert label in known[name]
        assert variable["query"]["query"] == variable["definition"]


def test_the_dashboard_is_bound_to_no_data_source_and_no_panel_lies_on_another() -> None:
    sources = re.findall(r'"uid": "([^"]+)"', json.dumps(DASHBOARD["panels"]))
    assert set(sources) == {"${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for g in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(g["x"], g["x"] + g["w"])
        for y in range(g["y"], g["y"] + g["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert all(panel["description"] and panel["targets"] for panel in panels())


def test_these_tests_would_find_what_is_wrong() -> None:
    known = samples()
    assert wrong('hardfirst_sample{project="x"}', known) == ["hardfirst_sample"]
    assert wrong('rate(hardfirst_http_requests_total{code="500"}[5m])', known) == ["hardfirst_http_requests_total"]
    assert wrong("sum by (verdict) (hardfirst_rounds_total)", known) == ["verdict"]
    with pytest.raises(ValueError, match="unclosed"):
        asked("sum(hardfirst_samples")


def test_what_the_process_says_of_itself_is_in_the_library() -> None:
    names = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    if "process_cpu_seconds_total" not in names:
        pytest.skip("the client library tells of the process on Linux only")
    assert names >= PROCESS
