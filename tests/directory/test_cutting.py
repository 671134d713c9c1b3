"""How a mesh comes to a codebook: one trains it, the others fetch and check it, and a bad one is endorsed by nobody."""

import dataclasses

import numpy as np
import pytest

from meshos.flow import Ask, Propose
from meshos.flow_machine import Perform
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory import cutting, limits
from meshos.protocols.directory.cells import codebook as codebooks
from meshos.protocols.directory.cells.quality import quality
from meshos.protocols.directory.commands import MACHINE, KeepCodebook, ReadCodebook
from meshos.protocols.directory.parts import Agreed
from meshos.protocols.directory.services import LOOKUP
from meshos.protocols.directory.vector import whole_bytes
from meshos.protocols.directory.wire import encode_part
from tests.directory.test_layout import CODEBOOK, profiles
from tests.directory.test_machine import Alone
from tests.directory.world import EMBEDDER, Mesh


class Ledger:
    """What the ledger of a mesh would say: a codebook is in force once three have endorsed it."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.agreed = Agreed(in_cells=True)
        for number, node in enumerate(mesh.ids):
            mesh.parts[node].agreed = lambda number=number: dataclasses.replace(self.agreed, speaks=True, trains=number == 0)

    def look(self) -> None:
        version = self.agreed.version + 1
        said = [parts.endorses[1] for parts in self.mesh.parts.values() if parts.endorses is not None and parts.endorses[0] == version]
        name = next((name for name in said if said.count(name) >= 3), None)
        if name is not None:
            self.agreed = dataclasses.replace(self.agreed, version=version, name=name, endorsed=())
            self.mesh.codebook = next(parts.codebooks[name] for parts in self.mesh.parts.values() if name in parts.codebooks)
        elif said:
            self.agreed = dataclasses.replace(self.agreed, endorsed=tuple(dict.fromkeys(said)))


def mesh_with(count: int, seed: int = 1) -> tuple[Mesh, Ledger]:
    mesh = Mesh(seed, nodes=4)
    mesh.run(1)
    mesh.publish(1, *profiles(count), seconds=20)
    return mesh, Ledger(mesh)


def test_one_trains_the_others_check_and_all_lay_the_directory_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "CELLS_FROM", 300)
    mesh, ledger = mesh_with(300)
    for _ in range(20):
        mesh.run(3)
        ledger.look()
    name = ledger.agreed.name
    assert ledger.agreed.version == 1 and all(name in parts.codebooks for parts in mesh.parts.values())
    mesh.run(60)
    assert {parts.layout.name for parts in mesh.parts.values()} == {name[:16]}
    some = next(held.id for held in mesh.machine(1)._held.all())
    for number in range(4):  # whoever has an id finds the record
        flow = mesh.start(number, LOOKUP, some)
        mesh.run(1)
        assert mesh.outcome(flow).entry.agent_id == some
    flow = mesh.start(2, LOOKUP, AgentId("a-0000000000000000"))
    mesh.run(5)
    assert mesh.outcome(flow) is None


def test_a_small_directory_stays_whole() -> None:
    mesh, ledger = mesh_with(60)
    for _ in range(5):
        mesh.run(3)
        ledger.look()
    assert ledger.agreed == Agreed(in_cells=True) and mesh.alike()


def test_a_codebook_that_sends_questions_astray_is_endorsed_by_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "CELLS_FROM", 300)
    mesh, ledger = mesh_with(300)
    random = np.random.default_rng(1)
    bad = dataclasses.replace(CODEBOOK, points=random.integers(-40, 40, CODEBOOK.points.shape).astype(np.int8))
    data = codebooks.encode(bad)
    liar = mesh.parts[mesh.ids[0]]
    liar.codebooks[codebooks.name_of(data)] = bad
    liar.endorses = (1, codebooks.name_of(data))
    _tell(mesh, 0, data)
    for _ in range(10):
        mesh.run(3)
        ledger.look()
    assert ledger.agreed.endorsed == (codebooks.name_of(data),) and ledger.agreed.version == 0
    assert all(codebooks.name_of(data) in mesh.parts[node].refused_codebooks for node in mesh.ids[1:])
    assert all(mesh.parts[node].endorses is None for node in mesh.ids[1:])


def test_who_holds_too_little_to_judge_endorses_nothing_and_refuses_nothing() -> None:
    mesh, ledger = mesh_with(60)
    bad = dataclasses.replace(CODEBOOK, points=np.zeros_like(CODEBOOK.points))
    data = codebooks.encode(bad)
    ledger.agreed = dataclasses.replace(ledger.agreed, endorsed=(codebooks.name_of(data),))
    _tell(mesh, 0, data)
    mesh.run(20)
    assert all(parts.endorses is None and not parts.refused_codebooks for parts in mesh.parts.values())


def test_a_peer_that_sends_a_codebook_byte_by_byte_is_not_followed() -> None:
    asked = []

    def ask(ask: Ask) -> bytes:
        asked.append(ask)
        return encode_part(8 << 20, b"x")

    flow = cutting._from(NodeId("liar"), b"n" * 32)
    step = flow.send(None)
    try:
        while True:
            step = flow.send(ask(step))
    except StopIteration as ended:
        assert ended.value == b"" and len(asked) == 1


def test_of_a_codebook_that_is_in_force_nothing_is_lost_to_others() -> None:
    alone, force = Alone(), b"f" * 32
    alone.do(KeepCodebook(force, b"in force", (force,)))
    for number in range(3 * limits.CODEBOOKS):
        alone.do(KeepCodebook(bytes([number]) * 32, b"data", (force,)))
    assert alone.do(ReadCodebook(force)) == b"in force"


def _tell(mesh: Mesh, number: int, data: bytes) -> None:
    keep = Perform(10**9, Propose(KeepCodebook(codebooks.name_of(data), data), MACHINE), None)
    mesh.world.nodes[mesh.ids[number]].deliver(MACHINE, keep)


def test_what_a_peer_sends_for_another_codebook_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, ledger = mesh_with(60)
    data = codebooks.encode(CODEBOOK)
    wrong = b"n" * 32
    ledger.agreed = dataclasses.replace(ledger.agreed, endorsed=(wrong,))
    asked: list[NodeId] = []

    async def lied(peer: NodeId, name: bytes) -> bytes:
        asked.append(peer)
        return data

    monkeypatch.setattr(cutting, "_from", lied)
    mesh.run(10)
    assert asked and not any(wrong in parts.codebooks for parts in mesh.parts.values())


def test_quality_tells_a_good_codebook_from_a_crowded_one() -> None:
    texts = [profile.text() for profile in profiles(400)]
    vectors = np.stack([one.vector for one in EMBEDDER.read(texts)])
    placed_by = [whole_bytes(vector.astype("<f2").tobytes()) for vector in vectors]
    assert quality(CODEBOOK, vectors, placed_by).good
    prices = CODEBOOK.prices.copy()
    prices[1:] += 100_000  # everything falls into the first cell
    crowded = quality(dataclasses.replace(CODEBOOK, prices=prices), vectors, placed_by)
    assert not crowded.good and crowded.balance > 4


def test_the_oldest_of_many_codebooks_goes() -> None:
    alone = Alone()
    for number in range(limits.CODEBOOKS + 2):
        alone.do(KeepCodebook(bytes([number]) * 32, b"data %d" % number))
    kept = [alone.do(ReadCodebook(bytes([number]) * 32)) for number in range(limits.CODEBOOKS + 2)]
    assert kept[:2] == [None, None] and kept[2:] == [b"data %d" % number for number in range(2, limits.CODEBOOKS + 2)]
