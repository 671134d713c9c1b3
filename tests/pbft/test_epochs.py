"""Other validators: a committed change comes into force at a checkpoint boundary, and begins an epoch (DESIGN.md, "Quorums", "Validators").

The riskiest point is where it meets a view change: ``view_change.py`` says why views are counted within an epoch.
"""

import itertools
from dataclasses import replace

import pytest

from meshos.consensus.pbft.block import Block, Certificate, Certified, Header, commit_domain, request_hash, requests_root
from meshos.consensus.pbft.claims import blocks_claims
from meshos.consensus.pbft.limits import MAX_VALIDATORS
from meshos.consensus.pbft.messages import Blocks, Proposal, Vote
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.simulated import SimulatedSigner
from meshos.simulations.pbft.cores import GENESIS, SECRET, VERIFIER, Cores, Node, genesis_set, verified
from meshos.simulations.pbft.toy import SEATS, request
from meshos.simulations.run import node_ids
from tests.pbft.making import OPERATOR, fill, new_seats, refused, signed


def test_a_change_waits_for_the_boundary_whose_header_names_it() -> None:
    cores = Cores(4, interval=4, extra=1).start()
    five = genesis_set(5)
    cores.submit(new_seats(1, five))
    cores.deliver()
    chain = cores[0].core.chain
    assert chain.pending == replace(five, epoch=1) and chain.validators == cores.validators
    fill(cores, 3)
    assert (chain.height, chain.epoch) == (3, 0)
    fill(cores, 4)
    boundary = cores[0].decided[3].certified.block.header
    assert boundary.next_validators == replace(five, epoch=1).hash and boundary.epoch == 0
    assert (chain.epoch, chain.validators.n, chain.first) == (1, 5, 5)


def test_a_mesh_that_nobody_asks_anything_of_makes_idle_blocks_up_to_the_boundary_and_no_more() -> None:
    cores = Cores(4, interval=4, extra=1).start()
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    assert cores[0].core.chain.pending is not None
    for _ in range(30):
        for node in cores.nodes.values():
            node.wait(1.0)
        cores.deliver()
    assert (cores[0].core.chain.height, cores[0].core.chain.epoch) == (4, 1)
    times = [one.certified.block.header.time_ms for one in cores[0].decided]
    assert all(later - earlier >= 5_000 for earlier, later in itertools.pairwise(times[1:]))


def test_of_several_changes_before_a_boundary_the_last_one_counts_and_one_that_is_taken_back_is_none() -> None:
    cores = Cores(4, interval=8, extra=2).start()
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    cores.submit(new_seats(2, genesis_set(6)))
    cores.deliver()
    assert cores[0].core.chain.pending == replace(genesis_set(6), epoch=1)
    cores.submit(new_seats(3, genesis_set(4)))
    cores.deliver()
    assert cores[0].core.chain.pending is None
    fill(cores, 8)
    assert cores[0].core.chain.epoch == 0


def test_a_change_in_the_boundarys_own_block_waits_for_the_next() -> None:
    cores = Cores(4, interval=4, extra=1).start()
    fill(cores, 3)
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    assert (cores[0].core.chain.height, cores[0].core.chain.epoch) == (4, 0)
    fill(cores, 8)
    assert cores[0].core.chain.epoch == 1


def test_a_new_validator_catches_up_and_votes_and_one_that_left_follows() -> None:
    cores = Cores(4, interval=2, extra=1).start()
    entries = genesis_set(5).entries
    cores.submit(new_seats(1, ValidatorSet(0, entries[1:])))
    cores.deliver()
    fill(cores, 2)
    assert [node.core.desk.index for node in cores.nodes.values()] == [None, 0, 1, 2, None]
    for _ in range(12):
        for node in cores.nodes.values():
            node.wait(0.5)
        cores.deliver()
    assert cores[4].core.desk.index == 3
    fill(cores, 6, cut=(3,))  # three of the four, the new one among them, are a quorum
    for _ in range(8):
        for node in cores.nodes.values():
            node.wait(0.5)
        cores.deliver()
    assert cores.heights() == [6] * 5
    assert not any(domain.epoch for domain, _ in cores[0].signed)


def test_a_seat_is_handed_over_to_another_node_of_the_organisation() -> None:
    cores = Cores(4, interval=2, extra=1).start()
    handed = (replace(cores.validators.entries[0], node=cores.ids[4], key=str(cores.ids[4])), *cores.validators.entries[1:])
    cores.submit(new_seats(1, ValidatorSet(0, handed)))
    cores.deliver()
    fill(cores, 2)
    for _ in range(12):
        for node in cores.nodes.values():
            node.wait(0.5)
        cores.deliver()
    assert (cores[0].core.desk.index, cores[4].core.desk.index) == (None, 0)
    fill(cores, 5)
    assert cores[4].core.chain.height == 5 and cores[4].signed


def test_a_node_whose_key_is_not_the_seats_does_not_vote() -> None:
    cores = Cores()
    stranger = Node(cores.ids[0], replace(cores[0].config, key="another key"))
    stranger.start()
    assert stranger.core.desk.index is None


@pytest.mark.parametrize("moment", ["before the boundary", "at the boundary", "after it"])
def test_a_view_change_around_a_boundary_loses_nothing(moment: str) -> None:
    cores = Cores(4, interval=4, extra=1).start()
    cores.submit(new_seats(1, ValidatorSet(0, genesis_set(5).entries)))
    cores.deliver()
    fill(cores, {"before the boundary": 2, "at the boundary": 3, "after it": 4}[moment], cut=(4,))
    for _ in range(8):  # who begins to vote has to hear first what others have seen of it
        for node in cores.nodes.values():
            node.wait(0.5)
        cores.deliver()
    bob = SimulatedSigner(SECRET, "bob")
    cores.submit(request(bob, GENESIS, 90, "wait", 1), cut=(0,))
    cores.submit(request(SimulatedSigner(SECRET, "carol"), GENESIS, 1, "add", 7), cut=(0,))
    for _ in range(20):
        for number in range(1, 5):
            cores[number].wait(0.5)
        cores.deliver(cut=[0])
    heads = {(node.core.chain.height, node.core.chain.head) for node in list(cores.nodes.values())[1:]}
    assert len(heads) == 1
    assert any(decided.certified.certificate.view >= 1 for decided in cores[1].decided)
    assert cores[1].core.chain.place(request_hash(request(SimulatedSigner(SECRET, "carol"), GENESIS, 1, "add", 7))) is not None


def test_views_and_promises_begin_anew_with_other_validators() -> None:
    cores = Cores(4, interval=4, extra=1).start()
    cores.submit(new_seats(1, genesis_set(5)), cut=[0])
    cores.lose_patience(1, 2, 3)
    cores.deliver()
    assert cores[1].core.view == 1
    fill(cores, 4)
    record = cores[1].core.desk.ballot.record
    assert (record.epoch, record.view, record.promised, record.choice.height) == (1, 0, 0, 5)


def test_votes_of_a_past_or_coming_epoch_do_not_count() -> None:
    cores = Cores(4, interval=2, extra=1).start()
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    fill(cores, 2)
    node = cores[1]
    for epoch in (0, 2):
        vote = signed(Vote("prepare", epoch, 0, 3, bytes(32), 2, b""), cores[2])
        node.noticed.clear()
        node.hear(cores[2].name, vote)
        assert node.noticed == ["wrong-epoch"]
    assert refused(verified, signed(Vote("prepare", 7, 0, 3, bytes(32), 2, b""), cores[2]), node.core) == "wrong-epoch"


def test_votes_for_the_first_height_of_an_epoch_are_kept_as_soon_as_its_validators_are_known() -> None:
    cores = Cores(4, interval=2, extra=1).start()
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    vote = signed(Vote("prepare", 1, 0, 3, bytes(32), 4, b""), cores[4])
    assert verified(vote, cores[1].core)
    cores[1].hear(cores[4].name, vote)
    assert cores[1].noticed == []


# -- every size ----------------------------------------------------------------------------------------------------------


def certified(node: Node, signers: int, requests: tuple[bytes, ...] = ()) -> Certified:
    """The next block of ``node``, certified by so many of the validators that decide it."""
    chain = node.core.chain
    header = Header(
        chain.height + 1,
        chain.epoch,
        chain.time_ms + 1,
        chain.head,
        chain.root,
        requests_root([request_hash(each) for each in requests]),
        chain.named_next().hash,
    )
    domain = commit_domain(GENESIS, header.epoch, 0, header.height)
    entries = chain.validators.entries[:signers]
    signatures = tuple((index, SimulatedSigner(SECRET, entry.key).sign(domain, header.hash)) for index, entry in enumerate(entries))
    return Certified(Block(header, requests), Certificate(0, signatures))


def test_the_set_grows_from_four_to_a_hundred_and_back_by_every_size_between() -> None:
    """Each block is a boundary; each is accepted with q signatures of the set of its epoch, and refused with one fewer."""
    follower = Cores(4, interval=1, extra=1).start()[4]
    everybody = genesis_set(MAX_VALIDATORS).entries
    sizes = [*range(5, MAX_VALIDATORS + 1), *range(MAX_VALIDATORS - 1, 3, -1)]
    for nonce, size in enumerate([*sizes, None, None], 1):
        chain = follower.core.chain
        requests = () if size is None else (new_seats(nonce, ValidatorSet(0, everybody[:size])),)
        short = certified(follower, chain.validators.q - 1, requests)
        assert refused(blocks_claims, [short], GENESIS, chain.validators) == "no-quorum"
        block = certified(follower, chain.validators.q, requests)
        count, claims = blocks_claims([block], GENESIS, chain.validators)
        assert count == 1 and all(VERIFIER.verify_many(claims))
        follower.hear(node_ids(1)[0], Blocks(chain.height + 1, 1, (block,)))
        if size is not None and nonce > 1:
            assert chain.validators.n == sizes[nonce - 2]
    assert follower.core.chain.epoch == len(sizes) and follower.core.chain.validators.n == 4
    assert follower.disk.get(SEATS) is not None


def test_a_block_that_a_past_set_has_signed_is_refused() -> None:
    follower = Cores(4, interval=1, extra=1).start()[4]
    old = follower.core.chain.validators
    follower.hear(node_ids(1)[0], Blocks(1, 1, (certified(follower, 3, (new_seats(1, genesis_set(7)),)),)))
    follower.hear(node_ids(1)[0], Blocks(2, 1, (certified(follower, 3),)))
    assert follower.core.chain.epoch == 1
    now = certified(follower, 3)
    assert refused(blocks_claims, [now], GENESIS, follower.core.chain.validators) == "no-quorum"
    past = Certified(Block(replace(now.block.header, epoch=0), ()), now.certificate)
    assert refused(blocks_claims, [past], GENESIS, follower.core.chain.validators) == "wrong-epoch"
    assert refused(blocks_claims, [now], GENESIS, old) == "wrong-epoch"


def test_thirteen_validators_decide_as_four_do() -> None:
    cores = Cores(13).start()
    cores.submit(request(OPERATOR, GENESIS, 1, "add", 1))
    cores.deliver(cut=[9, 10, 11, 12])
    assert cores.heights() == [1] * 9 + [0] * 4
    assert isinstance(cores[0].core._slots.known(1).proposals[0], Proposal)  # type: ignore[union-attr]
