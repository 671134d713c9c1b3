"""The scenario "pbft" and the exhaustive explorer: they find nothing in the product, and each way to break it.

``mesh sim mutants pbft-full`` hunts all mutations over 200 seeds, ``mesh sim explore`` explores the whole small scope; here are their short
forms.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from meshos.consensus.pbft import view_change, views
from meshos.consensus.pbft.ballot import Ballot
from meshos.node.cli import main
from meshos.simulations.mutations import must_find, replaced
from meshos.simulations.pbft import exhaustive, mutations
from meshos.simulations.pbft.exhaustive import Counterexample, Scope, explore, explore_delays
from meshos.simulations.run import run
from meshos.simulations.scenarios import scenario_named

BY_NAME = {mutation.name: mutation for mutation in mutations.MUTATIONS}


@pytest.mark.parametrize("seed", [2, 7])
def test_a_mesh_with_liars_and_changing_validators_agrees(seed: int) -> None:
    report = run(scenario_named("pbft"), seed, until_s=40)
    assert (report.verdict, report.message) == ("ok", "")
    assert report.figures["blocks"] > 20 and report.figures["epochs"] >= 1


def test_two_liars_among_seven_hold_nobody_up() -> None:
    report = run(scenario_named("pbft-full"), 3, until_s=40)
    assert (report.verdict, report.message) == ("ok", "")
    assert report.figures["blocks"] > 20 and report.figures["epochs"] >= 1


@pytest.mark.parametrize("name", ["quorum-less-one", "unsigned-accepted", "set-change-at-once"])
def test_a_rule_that_is_broken_is_found(name: str) -> None:
    must_find(BY_NAME[name], scenario_named("pbft"), range(1, 9))


def test_a_small_scope_has_no_counterexample() -> None:
    found = explore(Scope(crashes=0), most=5_000)
    assert found.decisions and found.carried_over


@contextmanager
def nothing_persisted() -> Iterator[None]:
    with replaced(Ballot, "_persist", lambda self, block: None):
        yield


@contextmanager
def afresh() -> Iterator[None]:
    def choice(changes: object) -> view_change.Choice:
        return view_change.Choice(1)

    with replaced(views, "choose", choice), replaced(view_change, "choose", choice):
        yield


@pytest.mark.parametrize(("broken", "crashes", "words"), [(nothing_persisted, 1, "signs a second"), (afresh, 0, "two blocks are decided")])
def test_the_explorer_finds_what_is_broken(broken: Callable[[], AbstractContextManager[None]], crashes: int, words: str) -> None:
    with broken(), pytest.raises(Counterexample, match=words):
        explore(Scope(crashes=crashes), most=30_000)


def test_two_heights_within_one_delay_have_no_counterexample() -> None:
    assert explore_delays(Scope(heights=2, crashes=1), 1).complete


def test_ctrl_c_while_exploring_says_how_far_it_got(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    judged: list[object] = []

    def judge(automata: object, places: object, found: object) -> None:
        judged.append(places)
        if len(judged) == 100:
            raise KeyboardInterrupt

    monkeypatch.setattr(exhaustive, "_judge", judge)
    assert main.run(["sim", "explore"]) == 130
    said = capsys.readouterr().out
    assert "not all of it, since Ctrl-C ended it" in said and "states 100\n" in said
    judged.clear()
    assert main.run(["sim", "explore", "--delays", "2", "--json"]) == 130
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["states"], found["complete"]) == ("stopped", 100, False)
