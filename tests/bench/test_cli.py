"""``mesh bench``: the list, an unknown name, and a whole run of the shortest one."""

import importlib
import json
import signal
import time
from collections.abc import Callable
from functools import partial

import pytest
import typer

from meshos.bench import cli
from meshos.bench.live import figures
from meshos.bench.report import Report, Row
from meshos.bench.serf import news
from meshos.errors import BadInput


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    cli.bench(None)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(cli.BENCHMARKS)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput) as refused:
        cli.bench("speed")
    assert refused.value.name == "unknown-benchmark" and all(name in refused.value.hint for name in cli.BENCHMARKS)


@pytest.mark.parametrize("name", cli.BENCHMARKS)
def test_every_listed_benchmark_exists(name: str) -> None:
    measure: Callable[..., None] = importlib.import_module(f"meshos.bench.{name}").measure
    assert measure.__doc__ and measure.__annotations__["short"] is bool


def test_an_option_that_a_benchmark_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match="--minutes means nothing to sim"):
        cli.bench("sim", minutes=1.0)


def test_options_are_handed_on_and_stand_in_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(report: Report, *, short: bool, minutes: float | None = None, seed: int | None = None) -> None:
        report.rows.append(Row("seed", float(seed or 0), "", met=(minutes, short) == (2.5, False)))

    monkeypatch.setattr("meshos.bench.soak.measure", measure)
    cli.bench("soak", minutes=2.5, seed=7, json_=True)
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "mesh bench soak --minutes 2.5 --seed 7" and document["rows"][0]["p50"] == 7


def wrapped() -> None:
    """As trio hands it on."""
    raise BaseExceptionGroup("nursery", [BaseExceptionGroup("another", [KeyboardInterrupt(), ValueError()])])


@pytest.mark.parametrize(
    ("happens", "code"),
    [
        (wrapped, 130),
        (partial(signal.raise_signal, signal.SIGTERM), 143),
        (partial(signal.raise_signal, signal.SIGHUP), 129),
        (partial(signal.raise_signal, signal.SIGINT), 130),
    ],
)
def test_who_is_told_to_end_cleans_up_and_says_so_by_the_exit_code(
    happens: Callable[[], None], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[bool] = []

    def measure(report: Report, *, short: bool) -> None:
        try:
            happens()
            time.sleep(10)
        finally:
            cleaned.append(True)

    monkeypatch.setattr("meshos.bench.sim.measure", measure)
    with pytest.raises(typer.Exit) as left:
        cli.bench("sim")
    assert left.value.exit_code == code and cleaned


def test_a_failure_is_no_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(report: Report, *, short: bool) -> None:
        raise BaseExceptionGroup("nursery", [ValueError()])

    monkeypatch.setattr("meshos.bench.sim.measure", measure)
    with pytest.raises(BaseExceptionGroup):
        cli.bench("sim")


@pytest.mark.parametrize("met", [True, False, None])
def test_the_exit_code_says_whether_a_bar_was_missed(
    met: bool | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(report: Report, *, short: bool) -> None:
        assert short
        report.rows.append(Row("what", 1.0, "s", met=met))

    monkeypatch.setattr("meshos.bench.sim.measure", measure)
    if met is False:
        with pytest.raises(typer.Exit) as left:
            cli.bench("sim", short=True, json_=True)
        assert left.value.exit_code == 1
    else:
        cli.bench("sim", short=True, json_=True)
    document = json.loads(capsys.readouterr().out)
    assert document["command"] == "mesh bench sim --short" and document["rows"][0]["met"] is met


def test_metrics_without_labels_are_read() -> None:
    text = '# HELP mesh_flows_flows flows\n# TYPE mesh_flows_flows gauge\nmesh_flows_flows 2.0\nmesh_x{a="b"} 1.0\nmesh_y 1e+03\n'
    assert figures(text) == {"mesh_flows_flows": 2, "mesh_y": 1000}


def test_serfs_log_tells_who_failed_and_who_joined() -> None:
    assert news("    2024/01/02 03:04:05 [INFO] serf: EventMemberFailed: serf-3 127.0.0.1\n") == [("serf-3", "failed")]
    assert news("    2024/01/02 03:04:05 [INFO] serf: EventMemberJoin: serf-1 127.0.0.1\n") == [("serf-1", "alive")]
    assert news("    2024/01/02 03:04:05 [INFO] memberlist: Suspect serf-3 has failed, no acks received\n") == []
    assert news("    2024/01/02 03:04:05 [INFO] serf: EventMemberFailed: \n") == news("") == []
