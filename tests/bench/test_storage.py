"""The figures of `mesh bench storage` are taken from both bases in one run."""

from pathlib import Path

from meshos.bench.storage_bases import measure


def test_both_bases_are_measured(tmp_path: Path) -> None:
    figures = measure(tmp_path, batches=40, sizes=(100,))
    assert [(figure.base, figure.batches) for figure in figures] == [("segments", 40), ("leveldb", 40)]
    assert all(0 < figure.p50_us <= figure.p95_us <= figure.p99_us for figure in figures)
    assert not list(tmp_path.iterdir())
