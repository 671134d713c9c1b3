"""What benchmarks compute and say: percentiles, growth, rows, the table and the JSON document."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.bench.machine import this_machine
from meshos.bench.report import FILE_WIDTH, Report, Row, percentile, row, slope_share


def report() -> Report:
    found = Report("sample", "mesh bench sample", this_machine())
    found.rows += [
        row("many", [float(number) for number in range(1, 101)], "ms", bar="p95 < 95 ms", met=False, note="a note"),
        row("one [bold]figure[/bold]", [12_345.6], "s", bar="any", met=True),
        row("nothing", [], "s"),
    ]
    return found


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2 and percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values)


def test_growth_is_that_of_the_line_through_the_points() -> None:
    assert slope_share([0, 10, 20], [99.0, 100.0, 101.0]) == pytest.approx(0.02)
    assert slope_share([0, 10, 20], [101.0, 100.0, 99.0]) == pytest.approx(-0.02)
    assert slope_share([0, 1, 2, 3], [100.0, 130.0, 130.0, 100.0]) == pytest.approx(0)
    assert slope_share([5, 5], [1.0, 2.0]) == slope_share([], []) == slope_share([1], [1.0]) == 0


def test_a_single_figure_has_no_other_percentiles() -> None:
    assert row("one", [3.0], "s") == Row("one", 3.0, "s", count=1)
    many = row("two", [3.0, 4.0], "s")
    assert (many.p50, many.p95, many.p99, many.count) == (3.0, 4.0, 4.0, 2)


def test_the_document_is_json_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    report().print(as_json=True)

    def no_constant(name: str) -> object:
        raise AssertionError(f"{name} is not JSON")

    document = json.loads(capsys.readouterr().out, parse_constant=no_constant)
    assert document["schema"] == "mesh.bench-sample/1" and document["command"] == "mesh bench sample"
    assert document["machine"]["cores"] >= 1
    many, one, nothing = document["rows"]
    assert (many["p50"], many["p95"], many["met"], many["count"]) == (50, 95, False, 100)
    assert one["p95"] is None and nothing["p50"] is None


def test_in_a_pipe_a_row_is_one_line_that_begins_with_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    report().print(as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= FILE_WIDTH for line in lines)
    (many,) = [line for line in lines if "many" in line and not line.startswith("-")]
    assert many.split() == ["MISSED", "50", "ms", "95", "99", "100", "many", "p95", "<", "95", "ms"]
    (one,) = [line for line in lines if "figure" in line]
    assert one.split() == ["ok", "12346", "s", "1", "one", "[bold]figure[/bold]", "any"]
    assert "- many: a note" in lines and lines[-1] == "Again  mesh bench sample"


def test_a_report_says_whether_the_machine_was_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    for noise, told in ((1.05, "; quiet"), (1.5, "NOT quiet: the calibration loop ran 1.50 times its best")):
        found = report()
        found.noise = noise
        found.print(as_json=False)
        assert told in capsys.readouterr().out.splitlines()[0]
