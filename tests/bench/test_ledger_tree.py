"""The figures of the state tree come out, and the small ones are what the structure says."""

from meshos.bench import ledger_tree
from meshos.bench.machine import this_machine
from meshos.bench.report import Report


def test_the_tree_is_measured() -> None:
    report = Report("ledger", "mesh bench ledger", this_machine())
    ledger_tree.measure(report, short=True, keys=1_000)
    figures = {row.what: row.p50 for row in report.rows}
    assert len(figures) == 9 and all(figure > 0 for figure in figures.values())
    assert figures["a proof: on the wire"] < 1_200
