"""Parts of the composition that need no testnet: how deep calls go, and where providers are found."""

import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from meshos.adapters.onprem.provider import OnPremProvider
from meshos.errors import Refused
from meshos.ids import AgentId
from meshos.node.api.keys import DEPTH, Key
from meshos.node.api.shapes import Caller
from meshos.node.facade.serving import Serving

ONE, OTHER = AgentId("a-1"), AgentId("a-2")


def caller(depth: int, agent: AgentId | None = None) -> Caller:
    purse = Key("id", "name", "admin", b"", None)
    return Caller("id", "name", "admin" if agent is None else "agent", None, depth, purse, agent=agent)


def test_an_agent_goes_no_deeper_than_any_call_that_it_serves_now() -> None:
    serving = Serving()
    assert serving.depth_after(caller(DEPTH)) == DEPTH - 1
    assert serving.depth_after(caller(DEPTH - 1, ONE)) == DEPTH - 2, "on its own account"
    with serving.call(ONE, 5):
        assert serving.depth_after(caller(7, ONE)) == 4
        with serving.call(ONE, 2), serving.call(ONE, 2):
            assert serving.depth_after(caller(7, ONE)) == 1
            assert serving.depth_after(caller(7, OTHER)) == 6, "another agent has nothing to do with it"
            assert serving.depth_after(caller(1, ONE)) == 0, "the key's own bound holds too"
        assert serving.depth_after(caller(7, ONE)) == 4
        with serving.call(ONE, 0), pytest.raises(Refused, match="too-deep"):
            serving.depth_after(caller(7, ONE))
    assert serving.depth_after(caller(7, ONE)) == 6
    with pytest.raises(Refused, match="too-deep"):
        serving.depth_after(caller(0))


def test_the_provider_is_found_by_its_entry_point() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["entry-points"]["meshos.adapters"]
    assert EntryPoint("onprem", declared["onprem"], "meshos.adapters").load() is OnPremProvider
