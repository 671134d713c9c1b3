"""The normal case: three phases, one height after the other (Castro & Liskov 1999, sections 4.1, 4.2), and what a proposal may be."""

import itertools
from dataclasses import replace

import pytest

from meshos.consensus.pbft.block import Block
from meshos.consensus.pbft.messages import Body, FetchBody, Relay, Vote
from meshos.simulations.pbft.cores import GENESIS, GENESIS_MS, VERIFIER, Cores, verified
from meshos.simulations.pbft.toy import WAITS, request
from tests.pbft.making import ALICE, add, proposal_of, reproposed, signed


def test_a_request_is_decided_by_all_with_one_result() -> None:
    cores = Cores().start()
    for nonce in (1, 2, 3):
        cores.submit(add(nonce))
        cores.deliver()
    assert cores.heights() == [3, 3, 3, 3]
    assert len({tuple(decided.certified.block.hash for decided in node.decided) for node in cores.nodes.values()}) == 1
    assert [decided.results for decided in cores[2].decided] == [(b"1",), (b"2",), (b"3",)]


def test_one_silent_validator_of_four_holds_nobody_up_and_two_do() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver(cut=[3])
    assert cores.heights() == [1, 1, 1, 0]
    cores.submit(add(2))
    cores.deliver(cut=[2, 3])
    assert cores.heights()[:2] == [1, 1]


def test_each_decision_carries_q_signatures_that_hold() -> None:
    cores = Cores(n=7).start()
    cores.submit(add(1))
    cores.deliver()
    for node in cores.nodes.values():
        (decided,) = node.decided
        certificate = decided.certified.certificate
        votes = [Vote("commit", 0, certificate.view, 1, decided.certified.block.hash, i, s) for i, s in certificate.signatures]
        assert len(votes) == 5 and all(verified(vote, node.core) for vote in votes)


def test_what_waits_while_a_block_is_in_flight_makes_the_next_one_together() -> None:
    cores = Cores().start()
    for nonce in range(1, 6):
        cores.submit(add(nonce))
    cores.deliver()
    assert [len(decided.certified.block.requests) for decided in cores[0].decided] == [1, 4]


def test_a_batch_is_bounded() -> None:
    cores = Cores(batch_requests=2).start()
    for nonce in range(1, 6):
        cores.submit(add(nonce))
    cores.deliver()
    assert [len(decided.certified.block.requests) for decided in cores[0].decided] == [1, 2, 2]


def test_a_commit_vote_needs_q_prepare_votes() -> None:
    """Predicate prepared(m, v, n, i), section 4.2."""
    cores = Cores().start()
    cores.submit(add(1))
    proposal = proposal_of(cores)
    replica = cores[1]
    replica.hear(cores[0].name, proposal)
    assert [domain.phase for domain, _ in replica.signed] == ["prepare"]
    replica.hear(cores[2].name, signed(Vote("prepare", 0, 0, 1, proposal.block.hash, 2, b""), cores[2]))
    assert [domain.phase for domain, _ in replica.signed] == ["prepare", "commit"]
    assert replica.core.desk.ballot.voted.lock is not None and replica.core.desk.ballot.voted.lock[:2] == (0, proposal.block.hash)


def test_votes_for_different_blocks_or_views_do_not_add_up() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    proposal = proposal_of(cores)
    replica = cores[1]
    replica.hear(cores[0].name, proposal)
    replica.hear(cores[2].name, signed(Vote("prepare", 0, 0, 1, bytes(32), 2, b""), cores[2]))
    replica.hear(cores[3].name, signed(Vote("prepare", 0, 1, 1, proposal.block.hash, 3, b""), cores[3]))
    assert [domain.phase for domain, _ in replica.signed] == ["prepare"]


def test_a_second_proposal_of_one_view_gets_no_vote_and_is_evidence() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    proposal = proposal_of(cores)
    replica = cores[1]
    replica.hear(cores[0].name, proposal)
    replica.hear(cores[0].name, reproposed(proposal, cores[0], time_ms=proposal.block.header.time_ms + 1))
    assert len([domain for domain, _ in replica.signed if domain.phase == "prepare"]) == 1
    assert replica.core._accusing.knows(0, 0)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"state_root": b"\1" * 32}, "wrong-state-root"),
        ({"next_validators": b"\1" * 32}, "wrong-validators"),
        ({"parent": b"\1" * 32}, "wrong-parent"),
        ({"time_ms": GENESIS_MS}, "time-not-after-parent"),
        ({"time_ms": GENESIS_MS - 5_000}, "time-not-after-parent"),
        ({"time_ms": GENESIS_MS + 2_002}, "clock-apart"),
    ],
)
def test_a_proposal_that_does_not_follow_gets_no_vote_and_a_name(fields: dict[str, object], name: str) -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores[1].hear(cores[0].name, reproposed(proposal_of(cores), cores[0], **fields))
    assert cores[1].signed == [] and cores[1].noticed == [name]


def test_two_seconds_off_the_clock_are_allowed() -> None:
    """DESIGN.md, "Ledger time"."""
    cores = Cores().start()
    cores.submit(add(1))
    cores[1].hear(cores[0].name, reproposed(proposal_of(cores), cores[0], time_ms=GENESIS_MS + 2_001))
    assert [domain.phase for domain, _ in cores[1].signed] == ["prepare"]


def test_a_proposal_refused_for_its_time_is_judged_again_when_the_clock_has_come_near() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores[1].hear(cores[0].name, reproposed(proposal_of(cores), cores[0], time_ms=GENESIS_MS + 2_500))
    cores[1].wait(0.6)
    assert [domain.phase for domain, _ in cores[1].signed] == ["prepare"]


def test_a_request_that_was_ordered_is_not_ordered_again() -> None:
    """Exactly once (section 4.1), whoever proposes it."""
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver()
    cores.submit(add(1))
    assert all([dropped.error.name for dropped in node.dropped] == ["request-repeated"] for node in cores.nodes.values())
    cores.submit(add(2))
    cores[1].hear(cores[0].name, reproposed(proposal_of(cores), cores[0], requests=(add(1),)))
    assert cores[1].noticed == ["request-repeated"]


def test_a_block_without_a_request_needs_a_reason() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores[1].hear(cores[0].name, reproposed(proposal_of(cores), cores[0], requests=()))
    assert cores[1].noticed == ["needless-block"]


def test_while_a_deadline_is_pending_an_idle_block_comes_every_five_seconds_and_then_no_more() -> None:
    """DESIGN.md, "Ledger time"."""
    cores = Cores().start()
    cores.submit(request(ALICE, GENESIS, 1, "wait", 12_000))
    cores.deliver()
    for _ in range(300):
        for node in cores.nodes.values():
            node.wait(0.1)
        cores.deliver()
    times = [decided.certified.block.header.time_ms for decided in cores[0].decided]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(gaps) == 3 and all(5_000 <= gap <= 6_200 for gap in gaps)
    assert cores[0].disk.get(WAITS) is None
    assert {node.core.view for node in cores.nodes.values()} == {0}


def test_a_block_is_fetched_from_those_who_voted_for_it() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver(drop=(FetchBody,))
    block = cores[0].decided[0].certified.block
    late = Cores().start()[1]
    for index in (0, 2, 3):
        for phase in ("prepare", "commit"):
            late.hear(cores[index].name, signed(Vote(phase, 0, 0, 1, block.hash, index, b""), cores[index]))  # type: ignore[arg-type]
    assert [send.message for send in late.take() if isinstance(send.message, FetchBody)] == [FetchBody(1, block.hash)]
    late.hear(cores[0].name, Body(Block(replace(block.header, time_ms=block.header.time_ms + 1), block.requests)))
    assert late.core.chain.height == 0
    late.hear(cores[0].name, Body(block))
    assert late.core.chain.head == block.hash


def test_what_is_far_ahead_is_not_kept() -> None:
    """The watermarks of section 4.2: memory is bounded whatever others send."""
    cores = Cores().start()
    replica = cores[1]
    for height, view, name in ((5, 0, "too-far-ahead"), (1, 4, "too-far-ahead"), (1, 0, None), (3, 3, None)):
        replica.noticed.clear()
        replica.hear(cores[2].name, signed(Vote("prepare", 0, view, height, bytes(32), 2, b""), cores[2]))
        assert replica.noticed == ([name] if name else [])


def test_a_node_without_a_seat_follows_and_never_votes() -> None:
    cores = Cores(extra=1).start()
    cores.submit(add(1))
    cores.deliver()
    cores[4].wait(2.1)
    cores.deliver()
    cores.submit(add(2))
    cores.deliver()
    assert cores.heights() == [2] * 5 and cores[4].signed == []


def test_a_request_of_a_client_is_told_to_all_and_once_more_to_a_primary_that_does_nothing() -> None:
    """Section 4.1: a request that the primary does not have is relayed to it."""
    cores = Cores().start()
    cores[2].submit(add(1), relay=True)
    (told,) = cores[2].take()
    assert isinstance(told.message, Relay) and set(told.to) == {cores[0].name, cores[1].name, cores[3].name}
    cores[2].wait(0.35)
    assert [send.to for send in cores[2].take() if isinstance(send.message, Relay)] == [(cores[0].name,)]


def test_signatures_of_strangers_and_for_other_domains_do_not_hold() -> None:
    cores = Cores().start()
    vote = signed(Vote("prepare", 0, 0, 1, bytes(32), 2, b""), cores[2])
    assert verified(vote, cores[1].core)
    for wrong in (replace(vote, index=3), replace(vote, view=1), replace(vote, height=2), replace(vote, phase="commit")):
        assert not verified(wrong, cores[1].core)
    assert VERIFIER.verify_many([]) == []
