"""The page of a run: one file that loads nothing, small however long the run was, with what happened and what was violated in it."""

import json
import random
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshos.ids import NodeId
from meshos.node.cli import main
from meshos.simulations.faults import Clog, Crash, Heal, Mend, Partition, Pause, Restart, Resume, Schedule, SlowDisk, Stall
from meshos.simulations.marks import Mark, State
from meshos.simulations.run import Report, Scenario, run
from meshos.simulations.scenarios import scenario_named
from meshos.simulations.timeline import LAST, MAX_KINDS, MAX_MARKS, SAMPLED, TEMPLATE, Tracer, page, traced
from meshos.simulations.world import SimNode, World

NODES = [NodeId(f"n{number:03d}") for number in range(1, 5)]
SCHEDULE: Schedule = [
    (8.0, Stall("n002", 1.5)),
    (10.0, Partition((("n001",), ("n002", "n003")))),
    (12.0, Crash("n004")),
    (13.0, SlowDisk("n001", 0.3)),
    (14.0, Pause("n001")),
    (15.0, Resume("n001")),
    (16.0, Restart("n004")),
    (18.0, Heal()),
    (20.0, Mend()),
]


def document(text: str) -> dict[str, object]:
    """The data of a page."""
    found = re.search(r"^const run = (.*);$", text, re.MULTILINE)
    assert found is not None
    read: dict[str, object] = json.loads(found[1])
    return read


@pytest.fixture(scope="module")
def whole() -> dict[str, object]:
    return document(traced(run(scenario_named("calls"), 1, nodes=4, until_s=40.0, schedule=SCHEDULE)))


def test_the_page_loads_nothing_from_anywhere() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    assert not re.search(r"https?:|src=|@import|url\(|fetch\(|import\(|XMLHttpRequest|<link", text)


def test_its_program_is_one(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no JavaScript engine on this machine")
    program = tmp_path / "page.js"
    program.write_text(TEMPLATE.read_text(encoding="utf-8").split("<script>")[1].split("</script>")[0])
    assert subprocess.run([node, "--check", program], capture_output=True, text=True, timeout=60, check=False).stderr == ""


def test_faults_last_as_long_as_they_do(whole: dict[str, object]) -> None:
    rows = {str(row["words"]): row for row in whole["faults"]}  # type: ignore[attr-defined]
    spans = {words: (row["at"] / 10_000, row["to"] / 10_000) for words, row in rows.items()}
    assert spans["stall disk of n002 for 1.5 s"] == (8.0, 9.5)
    assert spans["partition n001 | n002 n003"] == (10.0, 18.0)
    assert spans["slow disk of n001 by 0.3 s"] == (13.0, 20.0)
    assert spans["crash n004"] == (12.0, 12.0)
    assert rows["slow disk of n001 by 0.3 s"]["own"] and rows["slow disk of n001 by 0.3 s"]["nodes"] == [0]
    assert not rows["partition n001 | n002 n003"]["own"]


def test_lives_and_marks_and_messages_are_there(whole: dict[str, object]) -> None:
    lives = [(at / 10_000, node, what) for at, node, what in whole["lives"] if at]  # type: ignore[attr-defined]
    assert lives == [(12.0, 3, "crash"), (14.0, 0, "pause"), (15.0, 0, "resume"), (16.0, 3, "start")]
    texts = [text for _, _, _, text in whole["marks"]]  # type: ignore[attr-defined]
    assert any(re.fullmatch("n00[1-4] is suspect", text) for text in texts) and any(text.endswith(" completed") for text in texts)
    messages: dict[str, list[int]] = whole["messages"]  # type: ignore[assignment]
    assert len({len(column) for column in messages.values()}) == 1 and len(messages["at"]) == whole["sent"]
    assert messages["at"] == sorted(messages["at"])
    kinds: list[str] = whole["kinds"]  # type: ignore[assignment]
    assert "Ping" in kinds and "Request /meshos/task/1" in kinds
    lost = [at for at, takes in zip(messages["at"], messages["takes"], strict=True) if takes < 0]
    assert lost and all(10.0 <= at / 10_000 <= 18.0 for at in lost), "lost in the partition, and only there"


def test_a_tracer_changes_nothing() -> None:
    calls, tracer = scenario_named("calls"), Tracer(scenario_named("calls").marks)

    def watch(scenario: Scenario, world: World) -> "object":
        world.tracer = tracer
        return tracer.observe

    plain = run(calls, 3, nodes=3, until_s=30.0, record=True)
    assert run(calls, 3, nodes=3, until_s=30.0, record=True, tracer=watch).digest == plain.digest  # type: ignore[arg-type]
    assert tracer.messages > 100


@dataclass(frozen=True)
class Message:
    protocol: str


def test_a_page_stays_small_and_shows_the_end_and_a_fair_part_of_the_rest() -> None:
    tracer = Tracer(lambda node, machine, event, effects: ())
    rng = random.Random(1)
    total = 60_000
    for number in range(total):
        kind = Message(f"/rare/{number % 100}" if number % 1000 == 0 else f"/often/{number % 5}")
        tracer.sent(number * 0.01, number * 0.01 + rng.random() * 0.01, NODES[number % 4], NODES[(number + 1) % 4], kind)
    kept = tracer.kept()
    assert [sent.at for sent in kept[-LAST:]] == [number * 0.01 for number in range(total - LAST, total)]
    early = [sent for sent in kept if sent.at < (total - LAST) * 0.01 / 2]
    sampled = len(kept) - LAST
    assert sampled <= (MAX_KINDS + 1) * SAMPLED and 0.4 < len(early) / sampled < 0.6, "as many of the first half as of the second"
    assert sum(sent.kind == "Message /rare/0" for sent in kept) >= total // 1000 - 6, "what is rare is kept"
    for number in range(3 * MAX_MARKS):
        tracer.marks.append((number * 0.01, NODES[0], "mark", "x" * 160))
    text = page(Report("x", 1, 4, 600.0, [(1.0, Clog("n001", ("n002",), 1.0, "order"))], at_s=600.0), tracer, NODES)
    assert len(text) < 2_000_000
    assert len(document(text)["marks"]) == MAX_MARKS  # type: ignore[arg-type]


def test_states_last_until_another_and_are_told_once() -> None:
    given = iter([[State("role", "leader")], [State("role", "leader"), Mark("commits 1")], [State("role", "")], [State("role", "")]])
    tracer = Tracer(lambda node, machine, event, effects: next(given))
    world = World(1)

    class Node:
        name = NODES[0]

    node = Node()
    node.world = world  # type: ignore[attr-defined]
    for _ in range(4):
        tracer.observe(node, "raft", None, [])  # type: ignore[arg-type]
    assert sorted(row[2:] for row in tracer.states) == [("role", ""), ("role", "leader")] and len(tracer.marks) == 1


def test_what_a_message_says_cannot_end_the_program() -> None:
    report = Report("x", 1, 1, 1.0, [], "safety", "</script><script>alert(1)</script>", at_s=1.0)
    text = page(report, Tracer(_nothing), NODES[:1])
    assert text.count("</script>") == 1 and document(text)["message"] == report.message


def _nothing(node: SimNode, machine: str, event: object, effects: list[object]) -> tuple[()]:
    return ()


def test_replay_writes_a_page_and_a_failure_has_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cut: Schedule = [(20.0, Partition((("n001", "n002"), ("n003", "n004"))))]
    report = run(scenario_named("membership"), 1, nodes=4, until_s=60.0, schedule=cut)
    Path("cut.json").write_text(json.dumps(report.to_json()))
    assert main.run(["sim", "replay", "cut.json", "--html", "cut.html"]) == 10
    assert document(Path("cut.html").read_text())["verdict"] == "stuck"
    Path("cut.yaml").write_text("scenario: membership\nnodes: 4\nuntil: 40 s\nsettle: 0 s\nschedule: [20 s: crash n001]")
    capsys.readouterr()
    assert main.run(["sim", "run", "cut.yaml", "--seed", "1"]) == 10
    assert "See     sim/cut-1.html" in capsys.readouterr().out
    assert document(Path("sim/cut-1.html").read_text())["scenario"] == "cut.yaml"
