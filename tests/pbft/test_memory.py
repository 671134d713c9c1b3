"""What a validator must not forget: votes, locks and promises are on disk before they are signed, and an old copy of a disk is noticed.

Castro & Liskov 1999, sections 2 and 4.2: safety holds only while no more than f validators contradict themselves, so a crash must not make
one do so. TOCS 2002, section 4: what a recovering replica may believe.
"""

import pytest

from meshos.consensus.pbft.application import RESERVED
from meshos.consensus.pbft.ballot import Ballot
from meshos.consensus.pbft.block import Certificate
from meshos.consensus.pbft.messages import AskSeen, Proposal, Seen, ViewChange, Vote
from meshos.consensus.pbft.records import VIEW, VOTE, ViewRecord, Voted, decode_view, decode_voted
from meshos.consensus.pbft.view_change import Choice
from meshos.consensus.pbft.witness import Witness, newer
from meshos.effects import Persist, Put, Sign
from meshos.errors import Broken
from meshos.simulations.pbft.cores import GENESIS, Cores, Disk, Node, genesis_set
from tests.pbft.making import add, block_of, fill, new_seats, prepared_at, proposal_of, seats


def ballot(disk: Disk) -> tuple[Ballot, list[object]]:
    out: list[object] = []

    def write(effect: object) -> None:
        assert isinstance(effect, Persist)
        disk.write(effect.writes, durable=True)
        out.append(effect)

    made = Ballot(GENESIS, disk, out, write)  # type: ignore[arg-type]
    made.begin_epoch(0, 1, 2)
    return made, out


# -- before it is signed -------------------------------------------------------------------------------------------------


def test_a_vote_and_its_block_are_persisted_in_the_step_that_signs_it() -> None:
    disk = Disk()
    made, out = ballot(disk)
    block = block_of((b"x",))
    made.prepare(block, propose=False)
    persist, sign = out
    assert isinstance(persist, Persist) and isinstance(sign, Sign)
    assert decode_voted(disk.durable[VOTE]).prepared == block.hash
    assert any(isinstance(write, Put) and write.value == block.encoded for write in persist.writes)
    made.commit(block, Certificate(0, ((0, bytes(64)),)))
    voted = decode_voted(disk.durable[VOTE])
    assert (voted.committed, voted.lock) == (block.hash, (0, block.hash, ((0, bytes(64)),)))
    assert isinstance(out[-1], Sign) and isinstance(out[-2], Persist)


def test_a_promise_is_persisted_before_it_is_signed_and_binds_after_a_restart() -> None:
    disk = Disk()
    made, out = ballot(disk)
    made.promise(3, 0, GENESIS)
    assert isinstance(out[0], Persist) and isinstance(out[1], Sign)
    again, _ = ballot(disk)
    assert again.record == ViewRecord(0, 0, 3, Choice(1)) == decode_view(disk.durable[VIEW])
    with pytest.raises(Broken, match="promise"):
        again.prepare(block_of(()), propose=False)
    with pytest.raises(Broken, match="promise"):
        again.promise(2, 0, GENESIS)


def test_no_vote_is_given_twice_or_against_another() -> None:
    disk = Disk()
    made, _ = ballot(disk)
    made.prepare(block_of((b"x",)), propose=False)
    for again in (made, ballot(disk)[0]):
        with pytest.raises(Broken) as caught:
            again.prepare(block_of((b"y",)), propose=False)
        assert caught.value.name == "vote-contradicts"


def test_a_lock_lasts_for_its_height_over_views_and_restarts() -> None:
    disk = Disk()
    made, _ = ballot(disk)
    block = block_of((b"x",))
    made.commit(block, Certificate(0, ((0, bytes(64)),)))
    made.enter(1, Choice(1, block.hash, 0))
    made.prepare(block, propose=False)
    again, _ = ballot(disk)
    assert again.voted.lock is not None and again.voted.lock[:2] == (0, block.hash)
    again.prepare(block_of((), height=2), propose=False)
    assert again.voted.lock is None


def test_what_a_view_must_begin_with_is_known_after_a_restart() -> None:
    cores = Cores().start()
    block = prepared_at(cores, 2, 3)
    cores.lose_patience(1, 2, 3)
    cores.deliver(cut=[0], drop=(Proposal,))
    cores[3].crash()
    assert cores[3].core.desk.ballot.record.choice == Choice(1, block.hash, 0)


def test_after_a_crash_a_validator_gives_the_same_vote_again_or_none() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    proposal = proposal_of(cores)
    replica = cores[1]
    replica.hear(cores[0].name, proposal)
    before = list(replica.signed)
    replica.crash()
    assert replica.signed == before * 2
    (vote,) = [send.message for send in replica.take() if isinstance(send.message, Vote)]
    assert vote.hash == proposal.block.hash


def test_a_primary_proposes_the_same_block_again_after_a_crash() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    proposal = proposal_of(cores)
    cores[0].wall_ms += 500
    cores[0].crash()
    cores[0].submit(add(1))
    assert [send.message for send in cores[0].take() if isinstance(send.message, Proposal)] == [proposal]


def test_when_all_crash_at_once_what_one_has_decided_is_decided_again() -> None:
    """Blocks are written back late: the locks of q validators bring the block back (section 4.5.1)."""
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver()
    block = cores[0].decided[0].certified.block
    for node in cores.nodes.values():
        node.crash(witnessed=False)
    cores.deliver()
    assert [node.core.chain.head for node in cores.nodes.values()] == [block.hash] * 4
    assert all(domain.phase != "prepare" or payload == block.hash for node in cores.nodes.values() for domain, payload in node.signed)


def test_the_agreement_keeps_to_its_part_of_the_store() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver()
    assert {key[:5] for key in cores[0].disk.now} == {RESERVED, b"toy/a", b"toy/s"}


def test_votes_that_stand_on_blocks_that_are_gone_are_named_as_a_broken_disk() -> None:
    cores = Cores().start()
    for nonce in (1, 2, 3):
        cores.submit(add(nonce))
        cores.deliver()
    node = cores[1]
    torn = Node(node.name, node.config, Disk(now={VOTE: node.disk.now[VOTE]}))
    torn.start()
    assert torn.noticed == ["agreement-broken"] and torn.core.silent is not None


# -- old copies of a disk ------------------------------------------------------------------------------------------------


def rolled(cores: Cores, number: int, copy: dict[bytes, bytes]) -> Node:
    """The node starts on a copy of its disk, and asks."""
    node = cores[number]
    node.disk = Disk(dict(copy), [], dict(copy))
    node._build()
    node.start(witnessed=False)
    return node


def test_a_validator_signs_nothing_before_q_minus_1_others_have_answered() -> None:
    cores = Cores().start()
    replica = cores[3]
    replica.crash(witnessed=False)
    cores.submit(add(1))
    proposal = proposal_of(cores)
    replica.signed.clear()
    assert AskSeen(0) in [send.message for send in replica.take()]
    replica.hear(cores[0].name, proposal)
    replica.hear(cores[0].name, Seen(0, None, None))
    replica.hear(cores[0].name, Seen(0, None, None))
    assert replica.signed == []
    replica.hear(cores[1].name, Seen(0, None, None))
    assert [domain.phase for domain, _ in replica.signed] == ["prepare"]


def test_a_disk_that_was_put_back_is_noticed_by_the_vote_that_others_have_seen() -> None:
    cores = Cores().start()
    copy = dict(cores[3].disk.durable)
    cores.submit(add(1))
    cores.deliver()
    signed_before = len(cores[3].signed)
    node = rolled(cores, 3, copy)
    cores.deliver()
    assert node.noticed == ["disk-rolled-back"] and node.core.silent is not None and node.core.silent.name == "disk-rolled-back"
    cores.submit(add(2))
    cores.deliver()
    for each in cores.nodes.values():
        each.wait(3.0)
    cores.deliver()
    assert len(node.signed) == signed_before and cores.heights() == [2] * 4, "it follows, and signs nothing"
    node.crash()
    assert node.core.silent is not None, "and does not forget that"


def test_a_forgotten_promise_is_noticed_too() -> None:
    cores = Cores().start()
    copy = dict(cores[3].disk.durable)
    cores.submit(add(1))
    cores[3].lose_patience()
    for send in cores[3].take():
        if isinstance(send.message, ViewChange):
            for to in send.to:
                cores.nodes[to].hear(cores[3].name, send.message)
    node = rolled(cores, 3, copy)
    cores.deliver()
    assert node.noticed == ["disk-rolled-back"]


def test_an_old_copy_that_had_promised_a_view_does_not_say_so_again() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores[3].lose_patience()
    copy = dict(cores[3].disk.durable)
    cores.lose_patience(0, 1, 2)
    cores.deliver()
    assert cores.heights() == [1] * 4
    signed_before = len(cores[3].signed)
    node = rolled(cores, 3, copy)
    cores.deliver()
    assert node.noticed == ["disk-rolled-back"] and not node.core.desk.asking
    assert len(node.signed) == signed_before, "it signs nothing, not even what it had signed before"


def test_one_liar_among_those_who_answer_cannot_hide_what_reached_two_others() -> None:
    cores = Cores().start()
    copy = dict(cores[3].disk.durable)
    cores.submit(add(1))
    cores.deliver()
    node = rolled(cores, 3, copy)
    node.take()
    node.hear(cores[0].name, Seen(0, None, None))
    cores[1].hear(node.name, AskSeen(0))
    for send in cores[1].take():
        if node.name in send.to:
            node.hear(cores[1].name, send.message)
    assert node.noticed == ["disk-rolled-back"]


def test_a_liar_cannot_make_an_honest_disk_look_old() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver()
    node = cores[3]
    node.crash(witnessed=False)
    own = cores[0].core._asking._seen.of(node.name)
    assert own is not None
    node.hear(cores[0].name, Seen(0, own, None))
    node.hear(cores[1].name, Seen(0, own, None))
    assert node.core.silent is None and not node.core.desk.asking


def test_who_answers_from_a_later_epoch_does_not_count() -> None:
    witness = Witness.asking(seats(4), 3)
    witness.answer(0, 1)
    witness.answer(1, 1)
    assert not witness.cleared
    witness.answer(0, 0)
    witness.answer(1, 0)
    assert witness.cleared


def test_who_asks_about_an_epoch_that_ends_meanwhile_asks_the_validators_of_the_next() -> None:
    """It had voted for the last block of the epoch, lost it in a crash, and fetches it while it asks."""
    cores = Cores(4, interval=4, extra=1).start()
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    fill(cores, 4)
    node = cores[3]
    node.crash(witnessed=False)
    assert (node.core.chain.height, node.core.desk.ballot.voted.height, node.core.desk.asking) == (3, 4, True)
    cores.deliver()
    node.hear(cores[0].name, cores[0].core._catching_up.blocks_from(4))
    assert node.core.chain.epoch == 1 and node.core.desk.asking, "answers about another epoch do not count"
    assert [send.message for send in node.said if isinstance(send.message, AskSeen)] == [AskSeen(1)]
    cores.deliver()
    assert not node.core.desk.asking
    fill(cores, 5)
    assert any((domain.epoch, domain.height) == (1, 5) for domain, _ in node.signed), "and votes again"


def test_in_a_new_epoch_a_validator_with_an_old_disk_votes_again() -> None:
    cores = Cores(4, interval=4, extra=1).start()
    copy = dict(cores[3].disk.durable)
    fill(cores, 1)
    node = rolled(cores, 3, copy)
    cores.deliver()
    assert node.core.silent is not None
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    fill(cores, 4)
    for _ in range(8):
        for each in cores.nodes.values():
            each.wait(0.5)
        cores.deliver()
    assert node.core.chain.epoch == 1 and node.core.silent is None
    before = len(node.signed)
    fill(cores, 5)
    assert len(node.signed) > before


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Vote("prepare", 0, 0, 5, b"\1" * 32, 0, b""), False),
        (Vote("prepare", 0, 0, 5, b"\2" * 32, 0, b""), True),
        (Vote("commit", 0, 0, 5, b"\1" * 32, 0, b""), True),
        (Vote("prepare", 0, 1, 5, b"\1" * 32, 0, b""), True),
        (Vote("commit", 0, 7, 4, b"\3" * 32, 0, b""), False),
        (Vote("prepare", 0, 0, 6, b"\1" * 32, 0, b""), True),
        (Vote("prepare", 1, 0, 1, b"\1" * 32, 0, b""), True),
    ],
)
def test_which_seen_votes_a_disk_should_have_known(seen: Vote, expected: bool) -> None:
    assert newer(seen, Voted(0, 5, 0, b"\1" * 32, None, None)) is expected
