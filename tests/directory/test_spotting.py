"""One spot check: what is a lie, what is none although it looks like one, and what follows from being caught."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from meshos.errors import Refused
from meshos.flow import Compute, Flow
from meshos.ids import AgentId, NodeId
from meshos.protocols.directory import limits, spotting
from meshos.protocols.directory.answering import brief_of
from meshos.protocols.directory.asking import plan
from meshos.protocols.directory.cells.query import Brief, CellAnswer
from meshos.protocols.directory.cells.routing import Route
from meshos.protocols.directory.commands import IndexChanged, item_of
from meshos.protocols.directory.machine import Directory
from meshos.protocols.directory.parts import Agreed, Parts, never
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import AgentRecord, Sealed, buried, described
from meshos.protocols.directory.shelf import Shelf
from meshos.protocols.directory.suspects import Lie, Spot, Suspects
from meshos.protocols.directory.wire import decode_request, encode_entries
from meshos.protocols.rpc.events import Inbound
from meshos.simulations.directory import liars
from meshos.simulations.directory.mesh import DirectoryMesh, Laid, node_name, org_name, signed
from meshos.simulations.network import NetworkFaults
from meshos.storage.index.question import Question
from tests.directory.test_layout import CODEBOOK
from tests.directory.world import EMBEDDER, NOW_MS
from tests.simulations.test_directory import FORMER

NODES = 6
LIE = Lie("omitted", b"a" * 32)
Change = Callable[[CellAnswer], CellAnswer]


class Bench:
    """A mesh at rest, in which nobody checks anybody by itself, and one record with a holder and somebody who checks it."""

    def __init__(self, *more: Sealed) -> None:
        self.mesh = DirectoryMesh(1, NODES, CODEBOOK, EMBEDDER, NetworkFaults(), (1.0, 1.0))
        self.records = [*(_second(old) for old in FORMER.values()), *more]
        layout = self.mesh.layout(node_name(0))
        where = layout.places_of([sealed.entry for sealed in self.records])
        self.mesh.lay(Laid(sealed, there) for sealed, there in zip(self.records, where, strict=True))
        self.mesh.world.run(60)
        self.sealed, self.home = self.records[0], where[0][0]
        self.node = layout.holders[self.home][0]
        self.asker = next(node for node in self.mesh.ids if node not in (*layout.holders[self.home], NodeId(self.sealed.signer)))
        self.parts = self.mesh.parts[self.asker]
        self.spot = Spot(layout.name, self.node, self.home, item_of(self.sealed), self.sealed, self.home, 0)

    def run(self, work: Flow[object]) -> None:
        flows = self.mesh.world.nodes[self.asker].core.machine("flows")
        flows._services["test-spot"] = lambda _: work  # type: ignore[attr-defined]
        flow = self.mesh.start(self.asker, "test-spot", None)
        self.mesh.world.run(self.mesh.world.now + 10)
        _, outcome = self.mesh.ended[flow]
        assert not isinstance(getattr(outcome, "error", None), TypeError), outcome

    def caught(self, change: Change, spot: Spot | None = None) -> str | None:
        """Of what kind of lie the holder is caught once that answers so."""
        self.mesh.lies = {self.node: liars.lie(change)}
        self.parts.suspects = Suspects()
        chart = self.parts.charted.chart
        assert chart is not None
        self.run(spotting._checked(self.parts, self.parts.layout, chart, spot or self.spot))
        lie = self.parts.suspects.convinced.get(self.node)
        return None if lie is None else lie.reason

    def without(self, answer: CellAnswer) -> CellAnswer:
        """All but the record."""
        assert any(brief.id == self.spot.item.id for brief in answer.found), "it is among what an honest holder shows"
        kept = [(brief, at) for at, brief in enumerate(answer.found) if brief.id != self.spot.item.id]
        sealed = tuple(answer.sealed[at] for _, at in kept if at < len(answer.sealed))
        return CellAnswer(answer.cells, tuple(brief for brief, _ in kept), sealed)

    def padded(self, answer: CellAnswer, score: float) -> CellAnswer:
        """What is better than the record, and so many that are nobody's that the answer is full."""
        rest, mine = self.without(answer), next(brief.score for brief in answer.found if brief.id == self.spot.item.id)
        better = [brief for brief in rest.found if brief.score > mine]
        made_up = [Brief(f"a-{number:016x}", 1, bytes(16), score, 0) for number in range(limits.FOUND)]  # type: ignore[arg-type]
        return CellAnswer(rest.cells, (*better, *made_up)[: limits.FOUND], rest.sealed[: len(better)])


def _second(old: Sealed) -> Sealed:
    assert isinstance(old.entry, AgentRecord)
    return signed(dataclasses.replace(old.entry, version=2), NodeId(old.signer))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Where being caught once is enough."""
    monkeypatch.setattr(limits, "CAUGHT", 1)
    return Bench()


# -- what is a lie, and what is none -----------------------------------------------------------------------------------


def test_leaving_out_what_it_lists_is_a_lie(bench: Bench) -> None:
    assert bench.caught(lambda answer: answer) is None
    assert bench.caught(bench.without) == "omitted"
    assert bench.caught(liars.drop) == "omitted"


def test_who_leaves_out_what_stands_behind_a_near_equal_one_does_not_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CAUGHT", 1)
    first = _second(next(iter(FORMER.values())))
    assert isinstance(first.entry, AgentRecord)
    copy = signed(dataclasses.replace(first.entry, profile=dataclasses.replace(first.entry.profile, name="a copy")), NodeId(first.signer))
    bench = Bench(copy)

    theirs = {one.entry.agent_id for one in bench.records if one.signer != first.signer}
    told: list[str] = []

    def behind(agents: set[AgentId]) -> Change:
        def change(answer: CellAnswer) -> CellAnswer:
            rest = bench.without(answer)
            told.extend(brief.id for brief in rest.found if brief.id in agents)
            return dataclasses.replace(rest, found=tuple(one._replace(behind=int(one.id in agents)) for one in rest.found))

        return change

    assert bench.caught(behind({copy.entry.agent_id})) is None and told == [copy.entry.agent_id]
    assert bench.caught(bench.without) == "omitted"
    assert bench.caught(behind(theirs)) == "omitted" and len(told) > 1


def test_showing_an_older_version_than_it_lists_is_a_lie_and_a_newer_one_is_none(bench: Bench) -> None:
    assert bench.caught(liars.stale(FORMER)) == "stale"
    older = dataclasses.replace(bench.spot, item=dataclasses.replace(bench.spot.item, version=1))
    assert bench.caught(lambda answer: answer, older) is None


def test_what_is_not_signed_convinces_at_once_and_a_wrong_score_or_price_only_after_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cheaper(answer: CellAnswer) -> CellAnswer:
        return CellAnswer(answer.cells, tuple(brief._replace(price=1) for brief in answer.found), answer.sealed)

    def exchanged(answer: CellAnswer) -> CellAnswer:
        return CellAnswer(answer.cells, answer.found, answer.sealed[::-1])

    for change in (liars.forge, liars.inflate, cheaper, exchanged):
        assert bench.caught(change) == "forged"
    monkeypatch.setattr(limits, "CAUGHT", 3)
    assert [bench.caught(change) for change in (liars.forge, liars.inflate, cheaper, exchanged)] == ["forged", None, None, None]


def test_what_is_handed_over_after_the_answer_has_to_be_signed_too(bench: Bench) -> None:
    asked: list[CellAnswer] = []
    bench.caught(lambda answer: asked.append(answer) or answer)  # type: ignore[func-returns-value]
    forged, none = liars.forge(asked[0]), CellAnswer(asked[0].cells, (), ())
    assert spotting._read(bench.parts, _question(bench), none, forged.sealed).unsigned
    assert not spotting._read(bench.parts, _question(bench), none, asked[0].sealed).unsigned


def test_who_is_not_sure_of_a_cell_may_leave_it_out(bench: Bench) -> None:
    assert bench.caught(lambda answer: CellAnswer(tuple(cell for cell in answer.cells if cell != bench.home), (), ())) is None


def test_who_cannot_know_what_is_in_quarantine_checks_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SPOT_ROUNDS", 1)
    bench.mesh.lies = {node: liars.lie(liars.forge) for node in bench.mesh.ids}
    bench.parts.spots = True
    bench.parts.agreed = lambda: Agreed(restoring=True)
    bench.mesh.world.run(bench.mesh.world.now + 100)
    assert not bench.parts.suspects.convinced
    bench.parts.agreed, bench.parts.behind = None, lambda: True
    bench.mesh.world.run(bench.mesh.world.now + 100)
    assert not bench.parts.suspects.convinced
    bench.parts.behind = never
    bench.mesh.world.run(bench.mesh.world.now + 100)
    assert bench.parts.suspects.convinced


def test_what_is_in_quarantine_may_be_left_out(bench: Bench) -> None:
    bench.parts.barred = lambda *names: bench.spot.item.id if bench.spot.item.id in names else None
    assert bench.caught(bench.without) is None


def test_what_a_node_in_quarantine_has_signed_may_be_left_out_whoever_signed_what_others_hold(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    holding, other = bench.mesh.world.nodes[bench.node].core.machine("directory"), node_name(NODES + 3)
    assert isinstance(holding, Directory) and other != bench.sealed.signer
    held = holding._held.get(bench.spot.item.id)
    assert held is not None
    twin = signed(bench.sealed.entry, other)
    assert twin.digest == bench.sealed.digest
    stored = holding._stored.sealed_bytes
    monkeypatch.setattr(holding._stored, "sealed_bytes", lambda one: twin.to_bytes() if one is held else stored(one))
    assert bench.caught(bench.without) == "omitted"
    bench.parts.barred = lambda *names: other if other in names else None
    assert bench.caught(bench.without) is None


def test_what_a_holder_lists_no_more_it_need_not_show(bench: Bench) -> None:
    gone = dataclasses.replace(bench.spot, item=dataclasses.replace(bench.spot.item, digest=b"x" * 16))
    assert bench.caught(bench.without, gone) is None
    assert bench.caught(liars.stale(FORMER), gone) is None, "a revoked node's version was higher than what was signed anew"


def test_an_answer_that_is_filled_up_hides_nothing(bench: Bench) -> None:
    for score in (0.0, 0.999):
        assert bench.caught(lambda answer, score=score: bench.padded(answer, score)) == "omitted"  # type: ignore[misc]


def test_what_is_named_and_not_handed_over_is_made_up_and_what_has_changed_since_is_not(bench: Bench) -> None:
    data, item, question = bench.sealed.to_bytes(), bench.spot.item, _question(bench)
    named = Brief(item.id, item.version, item.digest, 0.999, 0)
    said = [(named, ()), (named, (bench.records[1].to_bytes(),)), (named, (data,)), (named._replace(digest=bytes(16)), (data,))]
    assert [spotting._differs(bench.parts, question, brief, pages) for brief, pages in said] == [True, True, True, False]
    unsigned = dataclasses.replace(bench.sealed, signature=bytes(64))
    assert spotting._differs(bench.parts, question, named, (unsigned.to_bytes(),))
    unknown = dataclasses.replace(bench.sealed, proof=b"n9-a")
    with pytest.raises(Refused, match="bad-record"):  # as where a certificate has ended: nobody is held to that
        spotting._differs(bench.parts, question, named, (unknown.to_bytes(),))


def test_of_a_full_answer_nothing_need_be_shown_that_ranks_below_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FOUND", 3)
    monkeypatch.setattr(limits, "RANKS_HIGH", 0)
    monkeypatch.setattr(spotting, "USUAL", 1)
    other, read = bench.records[7].entry, spotting.routed
    assert isinstance(other, AgentRecord)
    everywhere = Route(tuple(range(CODEBOOK.cells)), 0, 0)
    monkeypatch.setattr(spotting, "_excerpt", lambda sealed, drawn: other.profile.text())
    monkeypatch.setattr(spotting, "routed", lambda *asked: (read(*asked)[0], everywhere))
    heard: list[CellAnswer] = []
    assert bench.caught(lambda answer: heard.append(answer) or answer) is None  # type: ignore[func-returns-value]
    assert len(heard[0].found) == 3 and all(brief.id != bench.spot.item.id for brief in heard[0].found), "three others are better"
    assert bench.caught(lambda answer: CellAnswer(answer.cells, answer.found[:2], answer.sealed[:2])) == "omitted"


def _held(texts: Sequence[str]) -> dict[str, Sealed]:
    read = zip(texts, EMBEDDER.read([Profile(f"agent {at}", text).text() for at, text in enumerate(texts)]), strict=True)
    entries = [described(org_name(0), Profile(f"agent {at}", text), 1, NOW_MS, EMBEDDER.name, one) for at, (text, one) in enumerate(read)]
    return {entry.agent_id: signed(entry, node_name(0)) for entry in entries}


def _left_out(bench: Bench, held: dict[str, Sealed], sealed: Sealed, text: str) -> bool | None:
    """Whether a holder of ``held`` that answers this question as it ought to hides ``sealed``; None: it shows it."""
    shelf = Shelf(EMBEDDER)
    shelf.changed(IndexChanged(tuple(held.values()), (0,) * len(held), ()))
    found = shelf.search(text, limits.FOUND, None, collapse=True)
    answer = CellAnswer((bench.home,), tuple(brief_of(match) for match in found), ())
    if any(brief.id == sealed.entry.agent_id for brief in answer.found):
        return None
    spot = dataclasses.replace(bench.spot, sealed=sealed, item=item_of(sealed))
    work = spotting._is_left_out(bench.parts, spot, shelf.question(text, shelf.statistics()), answer)
    said: object = None
    try:
        while True:
            asked = work.send(said)  # type: ignore[attr-defined]
            if isinstance(asked, Compute):
                said = asked.work()
            else:
                said = encode_entries([held[one].to_bytes() for one in decode_request(asked.body).ids])
    except StopIteration as end:
        return bool(end.value)


def test_what_was_no_candidate_need_not_be_shown_though_its_pieces_rank_high(bench: Bench) -> None:
    asked = [f"word{number}" for number in range(6)]
    short = [" ".join((*asked[at % 4 : at % 4 + 3], f"short{at}")) for at in range(150)]
    held = _held([" ".join([*asked, *(f"other{number}" for number in range(80))]), *short])
    sealed = next(iter(held.values()))
    assert _left_out(bench, held, sealed, " ".join(asked)) is False, "a hundred were nearer as a whole, which are compared piece by piece"


def test_what_cannot_be_read_proves_nothing_and_ends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SPOT_ROUNDS", 1)
    monkeypatch.setattr(limits, "SPOT_WAIT", 1)

    async def nonsense(parts: Parts, inbound: Inbound) -> bytes:
        return b"nonsense"

    bench.parts.spots = True
    for other in bench.mesh.ids:
        bench.mesh.lies[other] = nonsense
    rounds = bench.parts.suspects.round
    bench.mesh.world.run(bench.mesh.world.now + 120)
    assert bench.parts.suspects.round - rounds > 50 and not bench.parts.suspects.suspected()


def test_what_was_signed_under_a_certificate_that_counts_no_more_is_no_forgery(bench: Bench) -> None:
    def revoked(signer: str, proof: bytes) -> object:
        raise Refused("certificate-revoked", "its organisation has taken it back")

    asked: list[CellAnswer] = []
    assert bench.caught(lambda answer: asked.append(answer) or answer) is None  # type: ignore[func-returns-value]
    bench.parts.checker = dataclasses.replace(bench.parts.checker, org_of=revoked)  # type: ignore[arg-type]
    forged = liars.forge(asked[0])
    assert asked[0].sealed and not spotting._read(bench.parts, _question(bench), forged, forged.sealed).unsigned


def _question(bench: Bench) -> Question:
    chart = bench.parts.charted.chart
    assert chart is not None
    return spotting.routed(bench.parts, chart, "chess1", spotting.UNFILTERED)[0]


# -- what follows ------------------------------------------------------------------------------------------------------


def rounds(suspects: Suspects, count: int) -> None:
    for _ in range(count):
        suspects.begin_round()


def test_it_takes_three_lies_each_half_a_minute_after_the_last() -> None:
    suspects, node = Suspects(), NodeId("n")
    for _ in range(10):
        suspects.catch(node, LIE, proven=False)
    assert suspects.suspected() == [node] and not suspects.convinced
    for _ in range(limits.CAUGHT - 1):
        assert node not in suspects.convinced
        rounds(suspects, limits.CAUGHT_APART - 1)
        suspects.catch(node, LIE, proven=False)
        assert node not in suspects.convinced
        rounds(suspects, 1)
        suspects.catch(node, LIE, proven=False)
    assert suspects.convinced == {node: LIE} and suspects.suspected() == []


def test_a_suspicion_and_a_conviction_end() -> None:
    suspects, node, other = Suspects(), NodeId("n"), NodeId("m")
    suspects.catch(node, LIE, proven=False)
    suspects.catch(other, LIE, proven=True)
    rounds(suspects, limits.SUSPECTED_ROUNDS)
    assert suspects.suspected() == [node] and other in suspects.convinced
    rounds(suspects, 1)
    assert suspects.suspected() == [] and other in suspects.convinced
    rounds(suspects, limits.CONVINCED_ROUNDS)
    assert not suspects.convinced and not suspects._caught


def test_a_node_asks_those_that_it_is_convinced_of_for_what_nobody_else_holds(bench: Bench) -> None:
    layout, parts = bench.parts.layout, bench.parts
    cells = set(range(CODEBOOK.cells))
    before = plan(parts, layout, cells, {})
    liar = next(node for node in before if node != parts.node)
    parts.suspects.catch(liar, LIE, proven=True)
    after = plan(parts, layout, cells, {})
    assert before[liar] and liar not in after and {cell for some in after.values() for cell in some} == cells
    others = set(bench.mesh.ids) - {liar}
    held = next(cell for cell in cells if liar in layout.holders[cell])
    assert plan(parts, layout, {held}, {held: others}) == {liar: (held,)}


def test_a_tombstone_that_is_named_in_an_answer_is_made_up(bench: Bench) -> None:
    old = bench.records[1]
    assert isinstance(old.entry, AgentRecord)
    gone = signed(buried(old.entry.mesh_id, old.entry.name, old.entry.version + 1, NOW_MS, old.entry), old.signer)
    named = Brief(gone.entry.agent_id, gone.entry.version, gone.digest, 0.5, 0)
    assert spotting._differs(bench.parts, _question(bench), named, (gone.to_bytes(),))
    assert spotting._read(bench.parts, _question(bench), CellAnswer((), (named,), (gone.to_bytes(),)), ()).wrong
