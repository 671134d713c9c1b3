"""What nodes hold is a join: order and repetition of verified statements do not matter."""

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership import codec
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.statements import Kind, Statement
from meshos.protocols.membership.table import Table, Verdict
from tests.membership.mesh import facts, org

NODES = [NodeId(name) for name in ("a1", "a2", "b1", "b2", "c1")]
ORGS: dict[NodeId, OrgDid] = dict(zip(NODES, (org(1), org(1), org(2), org(2), org(3)), strict=True))
X = NODES[0]


def sign(payload: bytes, mark: int = 0) -> Statement:
    return codec.statement(payload, bytes([mark]) * 64)


def table() -> Table:
    held = Table(Certified(NodeId("me"), org(9), b""), random.Random(1))
    for node in NODES:
        held.admit(Certified(node, ORGS[node], b""))
    held.absorb(sign(codec.alive_payload(X, 0, 0, facts(X, ORGS[X]))), 0.0)
    return held


small = st.integers(0, 3)
said_of_x = st.one_of(
    st.builds(lambda i, r, m: sign(codec.alive_payload(X, i, r, facts(X, ORGS[X])), m), small, small, st.integers(0, 1)),
    st.builds(
        lambda kind, i, accuser: sign(codec.word_payload(kind, X, i, accuser)),
        st.sampled_from([Kind.SUSPECT, Kind.DEAD]),
        small,
        st.sampled_from(NODES[1:]),
    ),
    st.builds(lambda i: sign(codec.left_payload(X, i)), small),
    st.builds(lambda i, r, t, m: sign(codec.note_payload(X, i, r, f"t{t}", b""), m), small, small, st.integers(0, 5), st.integers(0, 1)),
)


def content(held: Table) -> set[bytes]:
    return {said.blob for said in held.members[X].statements()}


def merged(said: Sequence[Statement]) -> Table:
    held = table()
    for one in said:
        held.absorb(one, 0.0)
    return held


@settings(max_examples=300, deadline=None)
@given(st.lists(said_of_x, max_size=12), st.randoms(use_true_random=False))
def test_merging_is_commutative_associative_and_idempotent(said: list[Statement], rng: random.Random) -> None:
    shuffled = said + said
    rng.shuffle(shuffled)
    one, other = merged(said), merged(shuffled)
    assert content(one) == content(other)
    assert set(one.held) == set(other.held) == {statement.digest for statement in one.members[X].statements()}
    for side in (list(other.members[X].statements()), list(reversed(other.members[X].statements()))):
        for statement in side:
            assert one.absorb(statement, 0.0) is Verdict.OLD


@settings(max_examples=100, deadline=None)
@given(st.lists(said_of_x, max_size=8), st.lists(said_of_x, max_size=8))
def test_a_sync_of_two_nodes_leaves_both_with_the_same(one_heard: list[Statement], other_heard: list[Statement]) -> None:
    one, other = merged(one_heard), merged(other_heard)
    give = other.compare(one.digests())
    for blob in give.give:
        one.absorb(codec.decode_statement(blob), 0.0)
    for blob in one.supply(give.want):
        other.absorb(codec.decode_statement(blob), 0.0)
    assert content(one) == content(other)
    assert other.compare(one.digests()).give == () and other.compare(one.digests()).want == b""


@settings(max_examples=100, deadline=None)
@given(st.lists(said_of_x, max_size=12))
def test_only_the_subject_raises_its_incarnation(said: list[Statement]) -> None:
    own = [statement.incarnation for statement in said if statement.kind is Kind.ALIVE]
    assert merged(said).members[X].incarnation == max([0, *own])


@settings(max_examples=100, deadline=None)
@given(st.lists(said_of_x, max_size=12))
def test_an_organisation_has_one_voice(said: list[Statement]) -> None:
    words = merged(said).members[X].words
    assert all(ORGS[word.signer] == of for of, word in words.items()) and len(words) <= 3


def test_news_is_judged_as_it_is_absorbed() -> None:
    held = table()
    newer = sign(codec.alive_payload(X, 1, 0, facts(X, ORGS[X])))
    assert held.judge(newer) is Verdict.NEWS and held.absorb(newer, 0.0) is Verdict.NEWS and held.judge(newer) is Verdict.OLD
    assert held.recognised(newer.blob)


def test_a_stranger_changes_nothing_until_its_certificate_was_checked() -> None:
    held = table()
    stranger = NodeId("s1")
    alive = sign(codec.alive_payload(stranger, 1, 0, facts(stranger, org(4))))
    word = sign(codec.word_payload(Kind.DEAD, X, 0, stranger))
    assert held.absorb(alive, 0.0) is Verdict.STRANGER and held.absorb(word, 0.0) is Verdict.STRANGER
    assert stranger not in held.members and not held.members[X].words
    held.admit(Certified(stranger, org(4), b""))
    assert held.absorb(alive, 0.0) is Verdict.NEWS and held.absorb(word, 0.0) is Verdict.NEWS


def test_a_node_that_lies_about_its_organisation_is_refused() -> None:
    held = table()
    b1 = NodeId("b1")
    assert held.absorb(sign(codec.alive_payload(b1, 1, 0, facts(b1, org(1)))), 0.0) is Verdict.REFUSED
    assert held.absorb(sign(codec.alive_payload(X, 9, 0, facts(X, org(2)))), 0.0) is Verdict.REFUSED
    assert held.members[X].incarnation == 0 and b1 not in held.members


def test_a_node_keeps_its_organisation() -> None:
    held = table()
    assert not held.admit(Certified(X, org(2), b"other")) and held.credentials[X].org == org(1)


def test_old_news_does_not_bring_back_the_forgotten() -> None:
    held = table()
    held.forget(held.members[X])
    assert held.absorb(sign(codec.alive_payload(X, 0, 3, facts(X, ORGS[X]))), 0.0) is Verdict.OLD
    assert held.absorb(sign(codec.alive_payload(X, 1, 0, facts(X, ORGS[X]))), 0.0) is Verdict.NEWS
