"""Which path carries what goes to a node, and why, as people and programs see it."""

from dataclasses import replace

import pytest

from meshos.flow import Lane
from meshos.ids import NodeId, OrgDid
from meshos.node.api import render, shapes
from meshos.node.facade import explaining, linking
from meshos.node.runtime.links.link_state import LinkState
from meshos.node.runtime.links.peer_links import BULK
from meshos.protocols.rpc.frames import LANES

B, C = NodeId("12D3KooWb"), NodeId("12D3KooWc")
ALPHA = OrgDid("did:mesh:enterprise:alpha")
NONE: dict[Lane, int] = dict.fromkeys(LANES, 0)
TCP = LinkState(B, ALPHA, "tcp", LANES, True, 0.0124, 0.25, 1e6, "", 1, 1, NONE, NONE, 0)
QUIC = replace(TCP, path="quic", rtt_s=None, loss=0.0, why="stalled")
STATES = [TCP, QUIC, replace(TCP, lanes=BULK), replace(TCP, node=C, why="first")]


def nobody(node: NodeId) -> None:
    return None


def test_the_one_that_carries_comes_first_and_says_why() -> None:
    carrying, other = linking.paths_of(STATES, B)
    assert carrying == shapes.PathView("quic", True, "the other one did not answer", None, 0.0)
    assert other == shapes.PathView("tcp", False, "", 12.4, 0.25)
    assert linking.paths_of(STATES, NodeId("nobody")) == ()
    assert linking.changed([carrying, other], nobody) == "what is sent there goes over quic, as the other one did not answer"
    assert linking.changed(linking.paths_of(STATES, C), nobody) is None and linking.changed([], nobody) is None
    relayed = linking.paths_of([replace(TCP, path="relay", via=C, why="first")], B)
    assert linking.changed(relayed, lambda node: "gamma-1") == "linked through gamma-1, as no direct way is known"
    assert linking.carried(STATES) == {"quic": 1, "tcp": 1}


def test_it_is_shown_to_programs_and_explained_to_people() -> None:
    paths = linking.paths_of(STATES, B)
    view = shapes.MemberView(B, "alpha-1", ALPHA, "local", "alive", 3, 0.0, paths=paths)
    assert render.member(view)["paths"] == [
        {"path": "quic", "carries": True, "why": "the other one did not answer", "rtt_ms": None, "loss": 0.0, "via": None},
        {"path": "tcp", "carries": False, "why": "", "rtt_ms": 12.4, "loss": 0.25, "via": None},
    ]
    assert explaining.member("alpha-1", view, "beta-1").lines[1:] == (
        "what is sent there goes over quic, as the other one did not answer: not measured yet",
        "tcp stands by: a round trip takes 12.4 ms, 25.0 % is lost",
    )


@pytest.mark.parametrize("why", ["first", "ended", "stalled", "better", "told"])
def test_every_reason_has_its_words(why: str) -> None:
    (path,) = linking.paths_of([replace(TCP, why=why)], B)
    assert path.carries and path.why
