"""js-libp2p and go-libp2p, each in a process of its own, at the square of a real node, over TCP and over QUIC.

Our code only looks at what they bring back: an answer that these libraries carried is an answer that any program can have.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from meshos.consensus.ledger import light_client
from meshos.consensus.ledger.accounts import ACCOUNTS
from meshos.crypto.signing import Ed25519Verifier
from meshos.genesis import Genesis
from meshos.node import folder as files
from meshos.node.config import load
from meshos.node.runtime.square import announcing, rendezvous, routing, serving
from meshos.protocols.square import announcements, describe, headers, join, proof, resolve, search, wire
from meshos.protocols.square.protobuf import field
from tests.interop import programs
from tests.mesh.testnet import ROOT, Net, until

QUESTION = "say it again"
SPOKEN = [module.NAME for module in (describe, headers, proof, resolve, search, join)]
OTHERS = ["/ipfs/kad/1.0.0", "/ipfs/id/push/1.0.0", "/libp2p/circuit/relay/0.2.0/hop", "/libp2p/autonat/1.0.0", "/floodsub/1.0.0"]
"""What libp2p programs often speak, and a square does not."""
VERIFIER = Ed25519Verifier()
DISCOVER = 3
"""Of libp2p's rendezvous: the type of the message."""


def members_protocols() -> list[str]:
    """Every protocol that nodes of members speak with one another, as the source names them."""
    found: set[str] = set()
    for room in ("protocols", "consensus", "node", "crypto"):
        for file in (ROOT / room).rglob("*.py"):
            found |= set(re.findall(r'"(/meshos/[a-z-]+/1)"', file.read_text(encoding="utf-8")))
    return sorted(found - set(SPOKEN))


def genesis_of(net: Net) -> Genesis:
    return files.read_genesis(load(Path(net.node("alpha").dir)).genesis)


@pytest.fixture(scope="module", params=["js", "go"])
def language(request: pytest.FixtureRequest) -> str:
    """Of the stranger."""
    programs.program(str(request.param))
    return str(request.param)


@pytest.fixture(scope="module", params=[0, 1], ids=["tcp", "quic"])
def visit(language: str, request: pytest.FixtureRequest, net: Net) -> dict[str, Any]:
    """What a stranger has brought back from alpha's square."""
    genesis, alpha, delta = genesis_of(net), net.node("alpha"), net.node("delta")
    until(lambda: delta.p2p[0] in json.loads(net.must("square", "describe", alpha.p2p[0], "--json"))["peers"])
    requests = [
        (describe.NAME, describe.request()),
        (headers.NAME, headers.request(0)),
        (proof.NAME, proof.request(ACCOUNTS.key(alpha.did))),
        (resolve.NAME, resolve.request(alpha.did)),
        (search.NAME, search.request(QUESTION, 3)),
        (join.NAME, join.request()),
    ]
    told = {
        "address": alpha.p2p[request.param],
        "kademlia": routing.protocol_of(genesis.hash),
        "find": delta.node_id,
        "topics": [announcements.heads_topic(genesis.hash), announcements.directory_topic(genesis.hash)],
        "ask": [(name, data.hex()) for name, data in requests],
        "meet": (field(1, DISCOVER) + field(5, field(1, rendezvous.namespace_of(genesis.hash).encode()))).hex(),
        "refused": [*members_protocols(), *OTHERS],
    }

    def met_all() -> dict[str, Any] | None:
        """A node's record comes with its membership, soon after the node."""
        said, code = programs.run(programs.program(language), told)
        assert code == 0 and isinstance(said, dict)
        return said if len(said["met"]) == len(net.nodes()) else None

    found: dict[str, Any] = until(met_all, "not all nodes are met at the rendezvous")
    return found


def answers(visit: dict[str, Any]) -> dict[str, Any]:
    return {name: wire.decode_answer(bytes.fromhex(data)) for name, data in zip(SPOKEN, visit["answers"], strict=True)}


def head_of(net: Net, visit: dict[str, Any]) -> light_client.Signed:
    """The newest header that came, followed from genesis."""
    page = headers.read_page(answers(visit)[headers.NAME])
    _, head = headers.follow(light_client.begin(genesis_of(net)), page, VERIFIER)
    assert head is not None
    return head


def test_it_is_identified_and_pinged(net: Net, visit: dict[str, Any]) -> None:
    alpha, said = net.node("alpha"), visit["identify"]
    also = [routing.protocol_of(genesis_of(net).hash), rendezvous.PROTOCOL, *announcing.PROTOCOLS, serving.IDENTIFY, serving.PING]
    assert visit["peer"] == alpha.node_id and visit["ping_ms"] >= 0
    assert said["protocol_version"] == "meshos/1" and said["agent_version"].startswith("meshos/")
    assert sorted(said["protocols"]) == sorted([*SPOKEN, *also])
    assert [f"{address}/p2p/{alpha.node_id}" for address in said["addresses"]] == list(alpha.p2p)


def test_the_mesh_is_described(net: Net, visit: dict[str, Any]) -> None:
    said, genesis = describe.read_description(answers(visit)[describe.NAME]), genesis_of(net)
    assert (said.mesh, said.genesis, said.node) == (genesis.mesh, genesis.hash, net.node("alpha").node_id)
    assert [org.did for org in said.orgs] == [org.did for org in genesis.orgs]


def test_the_ledger_is_proven_from_genesis(net: Net, visit: dict[str, Any]) -> None:
    head = head_of(net, visit)
    key = ACCOUNTS.key(net.node("alpha").did)
    bundle = proof.read_bundle(answers(visit)[proof.NAME], key)
    proven = light_client.prove_to(light_client.begin(genesis_of(net)), bundle, VERIFIER)
    assert head.header.height > 1 and proven.value is not None and ACCOUNTS.decode(proven.value).balance > 0


def test_a_did_is_resolved(net: Net, visit: dict[str, Any]) -> None:
    did = net.node("alpha").did
    document, _ = resolve.prove(
        light_client.begin(genesis_of(net)), did, resolve.read_resolved(answers(visit)[resolve.NAME], did), VERIFIER
    )
    assert document["id"] == did


def test_agents_are_found(net: Net, visit: dict[str, Any]) -> None:
    value, node = answers(visit)[search.NAME], net.node("alpha").node_id
    found = search.read_answer(value, query=QUESTION, node=node, genesis_hash=genesis_of(net).hash, verifier=VERIFIER)
    assert "Echo" in [agent.record.name for agent in found.agents]


def test_it_is_told_how_one_comes_in(net: Net, visit: dict[str, Any]) -> None:
    standing = join.read_standing(answers(visit)[join.NAME])
    assert (standing.policy, standing.state) == ("open", join.STRANGER) and standing.seeds


def test_another_node_is_found_by_kademlia(net: Net, visit: dict[str, Any]) -> None:
    delta = net.node("delta")
    assert {f"{address}/p2p/{delta.node_id}" for address in (one.partition("/p2p/")[0] for one in visit["found"])} == set(delta.p2p)


def test_all_nodes_are_met_at_the_rendezvous_by_what_each_has_signed(net: Net, visit: dict[str, Any]) -> None:
    met = {node: {f"{address}/p2p/{node}" for address in addresses} for node, addresses in visit["met"].items()}
    assert met == {node.node_id: set(node.p2p) for node in net.nodes()}


def test_news_is_heard(net: Net, visit: dict[str, Any]) -> None:
    genesis = genesis_of(net)
    (heads, directory) = (
        visit["heard"][topic][0] for topic in (announcements.heads_topic(genesis.hash), announcements.directory_topic(genesis.hash))
    )
    assert heads["from"] == directory["from"] == net.node("alpha").node_id
    light_client.check(light_client.begin(genesis), announcements.read_head_announcement(bytes.fromhex(heads["data"])), VERIFIER)
    assert announcements.read_directory_announcement(bytes.fromhex(directory["data"]))[1] >= 1


def test_every_protocol_of_members_is_refused(visit: dict[str, Any]) -> None:
    assert {"/meshos/task/1", "/meshos/pbft/1", "/meshos/membership/1"} <= set(members_protocols())
    assert set(visit["refused"]) == {*members_protocols(), *OTHERS}
    assert all("upport" in why for why in visit["refused"].values()), visit["refused"]
