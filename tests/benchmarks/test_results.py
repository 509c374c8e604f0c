"""The results, the table and the chart: medians and ranges, ours first, rivals in proportion to ours."""

import json
from xml.dom.minidom import parseString

import pytest

from benchmarks.chart import chart
from benchmarks.results_file import Rows, ratio, write_results
from benchmarks.table import table

TITLES = {"a-cold": "a file & more"}


@pytest.fixture
def rows() -> Rows:
    made = Rows()
    for wall_s in (4.0, 2.0, 9.0):
        made.add("a-cold", "scp", {"wall_s": wall_s, "cpu_s": 1.0, "wire_bytes": 30_000_000, "rss_bytes": 8_000_000})
    for wall_s in (2.0, 1.0, 3.0):
        values = {"wall_s": wall_s, "cpu_s": 1.5, "wire_bytes": 10_000_000, "rss_bytes": 90_000_000}
        made.add("a-cold", "carnet", values | {"delivered_s": wall_s + 1})
    return made


def test_ours_is_first_and_rivals_are_in_proportion_to_it(rows: Rows):
    ours, theirs = group = rows.of("a-cold")

    assert [ours.tool, theirs.tool] == ["carnet", "scp"]
    assert ratio(theirs, group, "wall_s") == 2.0
    assert ratio(theirs, group, "wire_bytes") == 3.0
    assert ratio(theirs, [theirs], "wall_s") is None


def test_the_table_has_medians_ranges_and_ratios(rows: Rows):
    lines = table(TITLES, [rows.of("a-cold")]).splitlines()

    ours = next(line for line in lines if "carnet  " in line).split()
    theirs = next(line for line in lines if "scp  " in line).split()
    assert ours == ["a-cold", "carnet", "2.00", "1.00-3.00", "10.0", "1.50", "90", "3.00"]
    assert theirs == ["scp", "4.00", "2.00-9.00", "2.00", "30.0", "3.00", "1.00", "8"]


def test_the_file_has_one_object_per_operation_and_tool_with_raw_values(rows: Rows, tmp_path):
    path = tmp_path / "results" / "latest.json"

    write_results(path, {"at": "2026-01-02T00:00:00Z"}, rows)

    read = json.loads(path.read_text("utf-8"))
    assert read["at"] == "2026-01-02T00:00:00Z"
    assert [(one["operation"], one["tool"]) for one in read["results"]] == [("a-cold", "scp"), ("a-cold", "carnet")]
    assert read["results"][0]["wall_s"] == [4.0, 2.0, 9.0]
    assert read["results"][0]["wire_bytes"] == [30_000_000] * 3


def test_the_chart_is_xml_that_says_every_tool_and_where_it_was_measured(rows: Rows):
    text = chart(TITLES, [rows.of("a-cold")], ["2026-01-02", "2 cores <fast>"])

    words = [element.firstChild.data for element in parseString(text).getElementsByTagName("text")]  # noqa: S318 - our own text
    assert {"carnet", "scp", "4.00 s", "10.0 MB", "30 MB", "2026-01-02", "2 cores <fast>"} <= set(words)


def test_a_chart_of_nothing_is_still_xml():
    assert parseString(chart({}, [], [])).documentElement.tagName == "svg"  # noqa: S318 - as above
