"""What `mesh explain` explains when a member has taken the id of something else for its name."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from meshos.adapters.onprem.provider import OnPremConfig, OnPremProvider
from meshos.consensus.ledger.testimonies import DISCHARGES, Discharge
from meshos.consensus.org.commands import FindTasks
from meshos.consensus.raft.config import LAN
from meshos.crypto.signing import Domain
from meshos.effects import Persist, Sign, Signed
from meshos.errors import Refused
from meshos.flow import Propose
from meshos.flow_machine import Flows, Perform
from meshos.genesis_reading import parse
from meshos.ids import AgentId, NodeId, OrgDid, Peer, TaskId
from meshos.node.api.event_log import EventLog
from meshos.node.api.keys import Key
from meshos.node.api.shapes import Caller, TaskView
from meshos.node.facade.facade import About, Facade, Seen
from meshos.node.facade.measuring import Measurements
from meshos.node.facade.metrics import Metrics
from meshos.node.facade.serving import Serving
from meshos.node.kernel.asking import ASK_ORG
from meshos.node.kernel.assembly import STORED, Assembly, Outside, assemble
from meshos.node.runtime.host import Host
from meshos.node.runtime.turns import Turns
from meshos.presets import PRESETS
from meshos.protocols.directory.commands import Publish
from meshos.protocols.directory.embedder import HashedEmbedder
from meshos.protocols.directory.record import Sealed
from meshos.protocols.directory.services import LOOKUP
from meshos.protocols.membership.events import Started
from meshos.protocols.membership.statements import NodeFacts
from meshos.simulations.authority import Authority
from meshos.simulations.genesis import simulated_genesis, vote_key
from meshos.storage.memory import MemoryStore
from tests.directory.world import sealed_record

ME = Peer(NodeId("12D3KooWme"), OrgDid("did:mesh:enterprise:alpha"))
ROOT = Path(__file__).resolve().parents[2]
CALLER = Caller("key", "tester", "admin", None, 8, Key("key", "tester", "admin", b"", None))
TASK = TaskId("t-" + "0123456789abcdef" * 2)
AGENT = sealed_record().entry.agent_id
ELSEWHERE = AgentId(f"a-{'9' * 16}")


def an_assembly(name: str) -> Assembly:
    """The machines of a node that calls itself ``name``, with one record in its directory."""
    authority, stores = Authority(1), {stored: MemoryStore(random.Random(1)) for stored in STORED}
    assembly = assemble(
        Outside(
            certified=authority.issue(ME.node, ME.org),
            facts=NodeFacts(ME.org, name, "a:1", "a:2"),
            genesis=simulated_genesis(1, {ME.org: ME.node}),
            validator_key=vote_key(ME.node),
            timing=PRESETS["lan"],
            seeds=(),
            verifier=authority.verifier,
            check_certificate=authority.check,
            org_of=authority.org_of,
            rng=random.Random(1),
            secret=b"s" * 32,
            views=stores,
            now=0.0,
            now_ms=0,
            wall_ms=lambda: 0,
            embedder=HashedEmbedder(),
            raft=LAN,
        )
    )
    for effect in assembly.membership.step(0.0, Started()):  # it lists itself once what it says of itself is signed
        if isinstance(effect, Sign):
            assert isinstance(effect.domain, Domain)
            assembly.membership.step(0.0, Signed(effect.op, authority.signer(ME.node).sign(effect.domain, effect.payload)))
    assert [view.name for view in assembly.membership.members()] == [name]
    for effect in assembly.directory.step(0.0, Perform(1, Propose(Publish((sealed_record(),)), "directory"), None, "test")):
        if isinstance(effect, Persist):
            stores["directory"].write(effect.writes)
    return assembly


@asynccontextmanager
async def a_node_called(name: str, folder: Path) -> AsyncIterator[Facade]:
    async def ask_org(query: object) -> tuple[TaskId, ...]:
        assert isinstance(query, FindTasks)
        return ()

    async def lookup(agent: object) -> Sealed | None:
        return sealed_record() if agent == ELSEWHERE else None

    async def never_signs(sign: Sign) -> bytes:
        raise AssertionError("nothing here is signed")

    async with trio.open_nursery() as nursery:
        host = Host({"flows": Flows({ASK_ORG: ask_org, LOOKUP: lookup}, limit=10)}, stores={}, handlers={}, ports={}, sign=never_signs)
        about = About(ME, name, "local", "0", parse((ROOT / "genesis.json").read_bytes()), "http://127.0.0.1:1", trio.current_time())
        seen = Seen(Measurements(), Metrics({}), Serving(), Turns())
        provider = OnPremProvider(OnPremConfig(folder))
        facade = Facade(about, host, an_assembly(name), provider, EventLog("run", lambda: 0), seen, MemoryStore(random.Random(1)), nursery)
        facade._calling.tasks.keep(TASK, TaskView(TASK, AGENT, "completed"))
        await nursery.start(host.run)
        yield facade
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("subject", "kind"), [(TASK, "task"), (TASK[:16], "task"), (AGENT, "agent"), (AGENT[:8], "agent")])
async def test_a_member_called_like_an_id_does_not_stand_in_for_it(subject: str, kind: str, tmp_path: Path) -> None:
    async with a_node_called(subject, tmp_path) as node:
        explained = await node.explain(subject, CALLER)
        assert explained.kind == kind
        assert (await node.explain(ME.node, CALLER)).kind == "member"


async def test_an_agent_whose_record_lies_on_other_nodes(tmp_path: Path) -> None:
    async with a_node_called("alpha-1", tmp_path) as node:
        assert (await node.explain(ELSEWHERE, CALLER)).kind == "agent"
        with pytest.raises(Refused, match="nothing-to-explain"):
            await node.explain(f"a-{'8' * 16}", CALLER)


@pytest.mark.parametrize("name", ["alpha-1", "a-0000", "t-rex"])
async def test_a_member_by_its_name(name: str, tmp_path: Path) -> None:
    async with a_node_called(name, tmp_path) as node:
        assert (await node.explain(name, CALLER)).kind == "member"


@pytest.mark.parametrize(("subject", "name"), [("t-none", "no-such-task"), ("a-none", "nothing-to-explain"), ("x", "nothing-to-explain")])
async def test_what_is_not_there(subject: str, name: str, tmp_path: Path) -> None:
    async with a_node_called("alpha-1", tmp_path) as node:
        with pytest.raises(Refused, match=name):
            await node.explain(subject, CALLER)


async def test_of_a_discharged_member_is_said_by_whom_why_and_until_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_node_called("alpha-1", tmp_path) as node:
        before = await node.explain(ME.node, CALLER)
        window = node._assembly.window
        discharge = Discharge(1_700_000_000_000, (("did:mesh:enterprise:beta", "stale"), ("did:mesh:enterprise:gamma", "omitted")))
        entries = {DISCHARGES.key(ME.node): DISCHARGES.encode(discharge)}
        monkeypatch.setattr(window, "get", lambda key, get=window.get: entries.get(key) or get(key))
        explained = await node.explain(ME.node, CALLER)
        assert not any("directory" in line for line in before.lines) and "dischargedUntil" not in before.facts
        said = "it holds nothing of the directory until 2023-11-14T22:13:20.000Z: it was caught lying by beta (stale), gamma (omitted)"
        assert said in explained.lines and explained.facts["dischargedUntil"] == "2023-11-14T22:13:20.000Z"
