"""Scenarios that a tester writes: what a file says is what is run, and what has no meaning is refused with its line."""

import json
from pathlib import Path

import pytest

from meshos.errors import BadInput
from meshos.node.cli import main
from meshos.simulations.faults import Crash, CrashAt, Heal, Mend, Partition, Pause
from meshos.simulations.run import run
from meshos.simulations.scenario_files import checker_name, chosen, seeds_of
from meshos.simulations.world import World

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "write-a-scenario.md"


def examples(language: str) -> list[str]:
    """The blocks of the page that are files."""
    return [block.split("```")[0] for block in PAGE.read_text(encoding="utf-8").split(f"```{language}\n")[1:]]


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_yaml_example_of_the_page_is_run_as_it_is_written(tmp_path: Path) -> None:
    (text,) = examples("yaml")
    picked = chosen(write(tmp_path, text))
    scenario = picked.scenario
    assert (scenario.nodes, scenario.until_s, scenario.settle_s, picked.seeds) == (4, 60.0, 30.0, tuple(range(1, 21)))
    world = World(1)
    assert [checker_name(checker) for checker in scenario.populate(world, scenario.nodes)] == ["membership", "call"]
    schedule = scenario.mixture(world, scenario.begin_s, 30.0)
    written = [row for row in schedule if isinstance(row[1], Partition | CrashAt | Heal | Crash)]
    assert written == [
        (12.0, Partition((("n001", "n002"), ("n003", "n004")))),
        (15.0, CrashAt("n001", "before", "sync", 3, "org")),
        (20.0, Heal()),
    ]
    assert any(isinstance(fault, Pause) for _, fault in schedule) and schedule[-1] == (30.0, Mend())
    report = run(scenario, 1, schedule=schedule)
    assert report.verdict == "ok", report.message
    assert report.visited["a crash before a sync"] == 1


def test_the_python_example_of_the_page_runs(tmp_path: Path) -> None:
    (text,) = examples("python")
    picked = chosen(write(tmp_path, text, "mine.py"))
    report = run(picked.scenario, picked.seeds[0])
    assert report.verdict == "ok" and report.scenario.endswith("mine.py") and report.figures["leases"] > 0


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("", "bad-yaml", "empty"),
        ("scenario: calls\n  x: 1", "bad-yaml", ":2:"),
        ("- calls", "bad-scenario-file", "no mapping"),
        ("nodes: 4", "bad-scenario-file", "the key scenario is missing"),
        ("scenario: cals", "bad-scenario-file", ":1:11: there is no scenario 'cals'; did you mean calls?"),
        ("scenario: calls\nnode: 4", "bad-scenario-file", ':2:1: there is no "node" here; did you mean nodes?'),
        ("scenario: calls\nnodes: 1", "bad-scenario-file", ":2:8: '1' is no number of nodes"),
        ("scenario: calls\nnodes: [1]", "bad-scenario-file", ":2:8: one value is wanted"),
        ("scenario: calls\nuntil: 60", "bad-scenario-file", ":2:8: '60' is no time; write it as 3 s"),
        ("scenario: calls\nuntil: 30 s", "bad-scenario-file", ":2:8: faults begin at 10 s and are over at -30 s"),
        ("scenario: calls\nseeds: 9..1", "bad-scenario-file", ":2:8:"),
        ("scenario: calls\nseeds: many", "bad-scenario-file", ":2:8:"),
        ("scenario: calls\ncheckers: [cals]", "bad-scenario-file", ':2:12: "cals" is no checker of this scenario; did you mean call?'),
        ("scenario: calls\ncheckers: call", "bad-scenario-file", ":2:11: a list of checkers"),
        ("scenario: calls\nfaults: {crash: much}", "bad-scenario-file", ':2:10: there is no "crash" here; did you mean crashes?'),
        ("scenario: calls\nfaults: {crashes: 3}", "bad-scenario-file", ':2:19: "3" is no amount; there are: little, some, much'),
        ("scenario: calls\nschedule: crash n001", "bad-scenario-file", ":2:11: a list of times and faults"),
        ("scenario: calls\nschedule:\n  - crash n001", "bad-scenario-file", ":3:5: a time and a fault"),
        ("scenario: calls\nschedule:\n  - 12: crash n001", "bad-scenario-file", ":3:5: '12' is no time"),
        ("scenario: calls\nschedule:\n  - 90 s: crash n001", "bad-scenario-file", ":3:5: 90 s lies after 60 s"),
        ("scenario: calls\nschedule:\n  - 12 s: crush n001", "bad-scenario-file", ":3:11: 'crush n001' is no fault"),
        (
            "scenario: calls\nnodes: 4\nschedule:\n  - 12 s: crash n009",
            "bad-scenario-file",
            ":4:11: at 12 s: crash n009: there is no node 'n009'",
        ),
        ("scenario: calls\nx: !!python/object:os.system 1", "bad-yaml", ":2:4:"),
    ],
)
def test_what_has_no_meaning_is_refused_with_its_line(text: str, name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        chosen(write(tmp_path, text))
    assert caught.value.name == name and said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (", "mine.py:1: SyntaxError"),
        ("\n\n1 / 0", "mine.py:3: ZeroDivisionError"),
        ("X = 1", "has no SCENARIO"),
        ("SCENARIO = 7", "has no SCENARIO"),
        ("from meshos.simulations.scenarios import SCENARIOS\nSCENARIO = SCENARIOS['calls']\nSEEDS = 'many'", "SEEDS are numbers"),
    ],
)
def test_a_program_that_gives_no_scenario_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        chosen(write(tmp_path, text, "mine.py"))
    assert caught.value.name == "bad-scenario-file"


@pytest.mark.parametrize("source", ["no/such/file.yaml", "cals", "."])
def test_a_scenario_that_is_not_there_is_unknown(source: str) -> None:
    with pytest.raises(BadInput) as caught:
        chosen(source)
    assert caught.value.name == "unknown-scenario"


def test_seeds_are_one_or_a_range() -> None:
    assert seeds_of("7") == (7,) and seeds_of("3..5") == (3, 4, 5)
    for text in ("", "x", "-1", "5..3", "1..", "..3", "1..99999999999", "1...3"):
        with pytest.raises(ValueError, match="seed"):
            seeds_of(text)


def test_the_file_is_named_in_the_run_and_its_faults_are_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "scenario: membership\nnodes: 3\nuntil: 40 s\nsettle: 20 s\nschedule:\n  - 12 s: [pause n001, crash n002]\n")
    assert main.run(["sim", "run", "mine.yaml", "--seeds", "1..3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["scenario"] for row in document["runs"]] == ["mine.yaml"] * 3
    assert [row["fault"] for row in document["runs"][0]["schedule"]] == ["pause", "crash", "mend"]
    assert "a paused node that met late what came meanwhile" in [row["situation"] for row in document["coverage"]["visited"]]
    assert "a ring of neighbours" in document["coverage"]["never"]
    (tmp_path / "run.json").write_text(json.dumps(document["runs"][0]))
    assert main.run(["sim", "replay", "run.json"]) == 0


def test_the_line_that_is_wrong_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["sim", "run", write(tmp_path, "scenario: calls\nnode: 4")]) == 2
    assert "node: 4\n^" in capsys.readouterr().err
