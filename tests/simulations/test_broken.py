"""The checkers can fail: with one function of the product broken, a seed within a bound finds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshos.consensus.org.machine import OrgMachine
from meshos.node.cli import main
from meshos.protocols.tasks import serve
from meshos.simulations.call_mutations import MUTATIONS
from meshos.simulations.mutations import Mutation, found_within, must_find, replaced
from meshos.simulations.scenarios import scenario_named


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_a_broken_product_is_found(mutation: Mutation) -> None:
    must_find(mutation, scenario_named("calls"), range(1, 21))


@contextmanager
def nothing_at_all() -> Iterator[None]:
    """Break nothing."""
    yield


UNBROKEN = Mutation("nothing", "the product as it is", nothing_at_all, nodes=3, until_s=30)


def test_a_product_that_is_not_broken_is_not_found() -> None:
    assert found_within(UNBROKEN, scenario_named("membership"), range(1, 4)) is None
    with pytest.raises(AssertionError, match="none of 3 seeds of membership finds it: nothing was violated"):
        must_find(UNBROKEN, scenario_named("membership"), range(1, 4))


def test_the_first_seed_that_finds_it_is_the_same_on_several_cores() -> None:
    keys, calls = MUTATIONS[-1], scenario_named("calls")
    assert found_within(keys, calls, range(1, 9), processes=2) == found_within(keys, calls, range(1, 9)) is not None


def test_a_broken_product_is_run_saved_and_replayed_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["sim", "run", "calls+keys-are-forgotten", "--seed", "2", "--until", "80"]) == 1
    (file,) = Path("sim").glob("*.json")
    told = capsys.readouterr().out
    assert "must not run twice" in told and str(file) in told
    assert main.run(["sim", "replay", str(file)]) == 1 and "must not run twice" in capsys.readouterr().out
    assert main.run(["sim", "run", "calls", "--seed", "2", "--until", "80"]) == 0, "the next run is of the product as it is"
    assert main.run(["sim", "run", "calls+nothing"]) == 2 and "[unknown-mutation]" in capsys.readouterr().err


def test_what_was_replaced_is_there_again_whatever_happens() -> None:
    inherited, own = OrgMachine.__repr__, serve.decode_request
    with pytest.raises(ZeroDivisionError), replaced(serve, "decode_request", None), replaced(OrgMachine, "__repr__", None):
        raise ZeroDivisionError
    assert serve.decode_request is own and OrgMachine.__repr__ is inherited and "__repr__" not in vars(OrgMachine)
    with pytest.raises(AttributeError), replaced(serve, "no_such_name", None):
        raise AssertionError("what is not there cannot be replaced")
