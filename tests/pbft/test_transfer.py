"""Checkpoints, and taking a state whose parts prove themselves (Castro & Liskov 1999, sections 4.3 and 5.3.2)."""

from dataclasses import replace

import pytest

from meshos.consensus.pbft.block import Certified
from meshos.consensus.pbft.checkpoint import CheckpointVotes, checkpoint_digest, is_boundary
from meshos.consensus.pbft.limits import FETCHED_BYTES_PER_S, FETCHED_OVERHEAD
from meshos.consensus.pbft.messages import (
    Blocks,
    Checkpoints,
    ChunkOf,
    Fetch,
    FetchCheckpoint,
    FetchChunk,
    Message,
    Status,
    Vote,
)
from meshos.consensus.pbft.records import RESTORING
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.ids import NodeId
from meshos.simulations.pbft.cores import Cores, Node, genesis_set, verified
from meshos.storage.store import Snapshot
from tests.pbft.making import behind, fill, new_seats, refused, said


def late(cores: Cores, node: Node, seconds: float = 10.0) -> None:
    """Let a node catch up with the others."""
    for _ in range(round(seconds / 0.25)):
        for each in cores.nodes.values():
            each.wait(0.25)
        cores.deliver()


def test_boundaries_are_the_multiples_of_the_interval() -> None:
    assert [height for height in range(20) if is_boundary(height, 8)] == [8, 16]


def test_a_checkpoint_is_stable_once_q_validators_have_signed_its_state() -> None:
    cores = Cores(interval=4).start()
    fill(cores, 4)
    for node in cores.nodes.values():
        checkpointing = node.core._checkpointing
        stable = checkpointing.stable
        assert stable is not None and stable.header.height == 4 and len(stable.signatures) == 3
        digest = checkpoint_digest(stable.header, stable.root, stable.pending)
        votes = [Vote("checkpoint", 0, 0, 4, digest, index, signature) for index, signature in stable.signatures]
        assert all(verified(vote, node.core) for vote in votes)


def test_a_digest_covers_block_state_and_the_validators_that_wait() -> None:
    cores = Cores(interval=4).start()
    fill(cores, 4)
    stable = cores[0].core._checkpointing.stable
    assert stable is not None
    digests = {checkpoint_digest(stable.header, stable.root, None), checkpoint_digest(stable.header, bytes(32), None)}
    digests |= {checkpoint_digest(replace(stable.header, height=8), stable.root, None)}
    digests |= {checkpoint_digest(stable.header, stable.root, genesis_set(5))}
    assert len(digests) == 4


def test_false_checkpoint_votes_of_f_liars_change_nothing_and_one_vote_counts_for_each() -> None:
    votes = CheckpointVotes()
    for index, fill_ in enumerate((1, 1, 1, 2)):
        votes.add(Vote("checkpoint", 0, 0, 8, bytes([fill_]) * 32, index, b"s"))
    votes.add(Vote("checkpoint", 0, 0, 8, bytes([1]) * 32, 3, b"s"))
    assert votes.leading(8) == bytes([1]) * 32 and [index for index, _ in votes.signatures(8, bytes([1]) * 32)] == [0, 1, 2]


def test_a_replica_whose_state_is_not_the_one_that_q_have_signed_stops() -> None:
    cores = Cores(interval=4).start()
    fill(cores, 3)
    cores[3].core.chain._head = replace(cores[3].core.chain._head, root=b"\7" * 32)
    fill(cores, 4)
    assert cores[3].noticed[-1:] == ["state-diverged"] and cores[3].core.deadline() is None
    fill(cores, 5)
    assert cores.heights()[:3] == [5, 5, 5]


def joined(cores: Cores) -> Node:
    """A node that was away while the others went on beyond what they keep."""
    fill(cores, 14, cut=(4,))
    return cores[4]


def test_who_joins_takes_the_state_of_a_checkpoint_and_goes_on_from_there() -> None:
    cores = Cores(4, interval=4, extra=1, keep_blocks=2, transfer_blocks=4).start()
    node = joined(cores)
    late(cores, node)
    assert node.core.chain.head == cores[0].core.chain.head and node.core.chain.base > 1
    assert node.disk.get(RESTORING) is None
    fill(cores, 15)
    assert node.core.chain.height == 15


def test_who_joins_verifies_each_epochs_validators_by_the_ones_before() -> None:
    cores = Cores(4, interval=2, extra=3, keep_blocks=2, transfer_blocks=4).start()
    for nonce, n in enumerate((5, 4, 5, 4), 1):
        cores.submit(new_seats(nonce, ValidatorSet(0, genesis_set(n).entries)), cut=(5, 6))
        cores.deliver(cut=(5, 6))
        fill(cores, nonce * 4, cut=(5, 6))
        for _ in range(4):
            for number in range(5):
                cores[number].wait(0.5)
            cores.deliver(cut=(5, 6))
    assert cores[0].core.chain.epoch == 4
    node = cores[6]
    late(cores, node, 15)
    assert node.core.chain.epoch == 4 and node.core.chain.head == cores[0].core.chain.head
    assert node.core.chain.validators_of(2) == cores[0].core.chain.validators_of(2)


def test_a_false_part_is_refused_and_another_node_is_asked() -> None:
    cores = Cores(4, interval=4, extra=1, keep_blocks=2, transfer_blocks=4).start()
    node = joined(cores)
    node.core._transfer.begin(cores[0].name)
    cores[0].hear(node.name, FetchCheckpoint(0))
    (checkpoints,) = said(cores[0], Checkpoints)
    node.take()
    node.hear(cores[0].name, checkpoints)
    assert said(node, FetchChunk) == [FetchChunk(12, b"")]
    node.core._transfer._sources.append(cores[1].name)
    node.hear(cores[0].name, ChunkOf(12, b"", b"\x83\x80\x00\x80"))
    assert "bad-encoding" in node.noticed and [send.to for send in node.take()] == [(cores[1].name,)]


def test_a_checkpoint_is_believed_only_with_q_signatures_of_the_right_epoch() -> None:
    cores = Cores(4, interval=4).start()
    fill(cores, 4)
    stable = cores[0].core._checkpointing.stable
    assert stable is not None
    fresh = Cores(4, interval=4)[0].core
    assert verified(Checkpoints((), stable), fresh)
    assert not verified(Checkpoints((), replace(stable, root=bytes(32))), fresh)
    assert not verified(Checkpoints((), replace(stable, pending=genesis_set(5))), fresh)
    assert refused(verified, Checkpoints((), replace(stable, signatures=stable.signatures[:2])), fresh) == "no-quorum"
    assert refused(verified, Checkpoints((), replace(stable, header=replace(stable.header, epoch=9))), fresh) == "wrong-epoch"


def test_an_epoch_is_believed_only_if_the_header_names_its_validators() -> None:
    cores = Cores(4, interval=2, extra=1).start()
    cores.submit(new_seats(1, genesis_set(5)))
    cores.deliver()
    fill(cores, 2)
    step = cores[0].core.chain.step_into(1)
    assert step is not None
    fresh = Cores(4, interval=2)[0].core
    assert verified(Checkpoints((step,), None), fresh)
    assert refused(verified, Checkpoints((replace(step, validators=genesis_set(6)),), None), fresh) == "wrong-epoch"
    assert refused(verified, Checkpoints((replace(step, validators=replace(step.validators, epoch=2)),), None), fresh) == "wrong-epoch"


def ask(cores: Cores, node: Node, gone: tuple[int, ...] = ()) -> None:
    """What the node asks for reaches whom it asks, unless that is ``gone``, and the answer reaches it; nothing else is heard."""
    for send in node.take():
        for to in send.to:
            if isinstance(send.message, FetchCheckpoint | FetchChunk) and cores.ids.index(to) not in gone:
                answer(cores, node, to, send.message)


def answer(cores: Cores, node: Node, to: NodeId, question: Message) -> None:
    """It reaches ``to``, and the answer the node."""
    cores.nodes[to].hear(node.name, question)
    for send in cores.nodes[to].take():
        if isinstance(send.message, Checkpoints | ChunkOf):
            node.hear(to, send.message)


def begin(cores: Cores, node: Node, source: int) -> None:
    """The node takes the first part of a state from ``source``, and knows of nobody else who has one."""
    node.core._transfer.begin(cores[source].name)
    node._carry(node.core.taken())
    for _ in range(3):
        ask(cores, node)
    assert node.core.desk.restoring


def lies(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on it gives false parts."""
    monkeypatch.setattr(node.core.desk.application, "chunk", lambda view, at: b"\x83\x80\x00\x80")


def test_a_state_that_only_a_liar_has_offered_is_taken_from_others_once_a_part_is_laid_down(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(4, interval=4, extra=1, keep_blocks=2, transfer_blocks=4).start()
    node = joined(cores)
    begin(cores, node, 0)
    lies(cores[0], monkeypatch)
    for _ in range(20):
        ask(cores, node)
    assert "bad-encoding" in node.noticed and not node.core.desk.restoring and node.core.chain.height == 12


def test_a_liar_that_names_a_state_which_only_it_has_and_pushes_in_does_not_keep_others_from_being_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores = Cores(4, interval=4, extra=1, keep_blocks=2, transfer_blocks=4).start()
    node = joined(cores)
    for other in (0, 1, 2):
        cores[other].wait(60.0)
        cores[other].take()
    fill(cores, 34, cut=(3, 4))
    begin(cores, node, 3)
    assert node.core._transfer._target is not None and node.core._transfer._target.header.height == 12
    lies(cores[3], monkeypatch)
    for _ in range(30):
        node.core._transfer.begin(cores[3].name)  # it offers it again and again
        node.wait(1.0)
        ask(cores, node, gone=(0,))
    assert not node.core.desk.restoring and node.core.chain.height == 32


def asked_again(node: Node) -> None:
    """Nobody gave the next part for a round: the next of those that are asked names the state to be taken."""
    node.core._transfer._target = None
    node.core._transfer.ask()
    node._carry(node.core.taken())


def ask_with_liar(cores: Cores, node: Node, tells: Checkpoints, state: Snapshot | None = None) -> None:
    """For 20 s, as ``ask``, where the first answers each question for a checkpoint with the same, and gives parts of ``state`` at most."""
    liar = cores[0].name
    for _ in range(400):
        for send in node.take():
            (to,) = send.to if isinstance(send.message, FetchCheckpoint | FetchChunk) else ("",)
            if to == liar and isinstance(send.message, FetchCheckpoint):
                node.hear(liar, tells)
            elif to == liar and isinstance(send.message, FetchChunk) and state is not None:
                part = cores[0].core.desk.application.chunk(state, send.message.at)
                node.hear(liar, ChunkOf(send.message.height, send.message.at, part))
            elif to and to != liar:
                answer(cores, node, NodeId(to), send.message)
        node.wait(0.05)


def test_a_liar_that_answers_with_epochs_which_are_known_is_left_for_another() -> None:
    cores = Cores(4, interval=4, extra=1, keep_blocks=2, transfer_blocks=4).start()
    cores.submit(new_seats(1, genesis_set(5)), cut=(4,))
    cores.deliver(cut=(4,))
    node = joined(cores)
    step = cores[0].core.chain.step_into(1)
    assert step is not None
    begin(cores, node, 0)
    asked_again(node)
    ask_with_liar(cores, node, Checkpoints((step,), None))
    assert not node.core.desk.restoring and node.core.chain.height == 12


def test_a_validator_whose_state_is_being_laid_down_takes_none_that_is_older_than_what_it_has_voted_on() -> None:
    cores = Cores(4, interval=4, keep_blocks=2, transfer_blocks=4).start()
    fill(cores, 6)
    old, node = cores[0].core._checkpointing.stable, cores[3]
    assert old is not None and old.header.height == 4
    state = cores[0].core._checkpointing.snapshot_at(4)
    fill(cores, 7)
    fill(cores, 26, cut=(3,))
    begin(cores, node, 0)
    asked_again(node)
    ask_with_liar(cores, node, Checkpoints((), old), state)
    assert not node.core.desk.restoring and node.core.chain.height == 24
    node.crash()
    assert node.core.silent is None and node.core.chain.height == 24


def test_epochs_learned_on_the_way_to_a_state_that_blocks_made_needless_are_not_where_the_next_one_is_asked_from() -> None:
    cores = Cores(4, interval=4, extra=1, keep_blocks=2, transfer_blocks=4).start()
    away = (4,)
    for nonce, n in ((1, 5), (2, 4)):
        cores.submit(new_seats(nonce, genesis_set(n)), cut=away)
        cores.deliver(cut=away)
        fill(cores, nonce * 4, cut=away)
    assert cores[0].core.chain.epoch == 2
    node, first = cores[4], cores[0].core.chain.step_into(1)
    assert first is not None
    node.core._transfer.begin(cores[0].name)
    node.hear(cores[0].name, Checkpoints((first,), None))
    assert node.core._transfer._newest_epoch == 1
    for height in range(1, 9):
        certified = cores[0].core.chain.certified(height)
        assert certified is not None
        node.hear(cores[0].name, Blocks(height, 1, (certified,)))
    assert node.core.chain.epoch == 2
    node.wait(60.0)
    node.take()
    node.core._transfer.begin(cores[0].name)
    node._carry(node.core.taken())
    assert said(node, FetchCheckpoint) == [FetchCheckpoint(2)]


def asked_by(node: Node, liar: NodeId, tells: Checkpoints, seconds: float) -> list[Message]:
    """What ``node`` asks of a liar within ``seconds`` that says at once that it has no blocks so old, and tells of the same state."""
    asked: list[Message] = []
    ends = node.now + seconds
    while node.now < ends:
        for send in node.take():
            if send.to == (liar,) and isinstance(send.message, Fetch | FetchCheckpoint):
                asked.append(send.message)
                node.hear(liar, Blocks(100, 90, ()) if isinstance(send.message, Fetch) else tells)
        node.wait(0.001)
    return asked


def test_who_has_neither_the_blocks_nor_a_newer_state_is_asked_for_them_now_and_then_and_not_without_end() -> None:
    node, own = behind(cores := Cores(4, interval=4, keep_blocks=2, transfer_blocks=4).start())
    node.hear(cores[0].name, Status(0, 0, 100))
    asked = asked_by(node, cores[0].name, Checkpoints((), own), 5.0)
    assert 5 <= len([each for each in asked if isinstance(each, Fetch)]) <= 10, "once in a time limit of a question"
    assert 5 <= len([each for each in asked if isinstance(each, FetchCheckpoint)]) <= 15, "a round of each, and then a rest"


def test_who_offers_a_state_while_a_liar_is_left_alone_is_asked_for_it_then() -> None:
    node, own = behind(cores := Cores(4, interval=4, keep_blocks=2, transfer_blocks=4).start())
    node.hear(cores[0].name, Status(0, 0, 100))
    asked_by(node, cores[0].name, Checkpoints((), own), 0.5)
    node.hear(cores[1].name, cores[1].core._catching_up.blocks_from(13))
    ask_with_liar(cores, node, Checkpoints((), own))
    assert node.core.chain.height >= 24 and not node.core.desk.restoring


def test_a_liar_that_names_a_state_which_only_it_has_and_gives_no_part_of_it_keeps_nobody_behind() -> None:
    cores = Cores(4, interval=4, keep_blocks=2, transfer_blocks=4).start()
    fill(cores, 12)
    node, liar = cores[3], cores[0].name
    fill(cores, 16, cut=(3,))
    named = cores[0].core._checkpointing.stable
    assert named is not None and named.header.height == 16
    for _ in range(2):
        for each in (cores[0], cores[1], cores[2]):  # until none of them has the state of 16 any more
            each.wait(60.0)
            each.take()
        fill(cores, 27, cut=(3,))
    node.take()
    node.hear(liar, Blocks(27, 26, ()))
    until = node.now + 60.0
    while node.now < until and node.core.chain.height < 24:
        for other in (1, 2):
            node.hear(cores[other].name, Status(0, 0, 27))
        for send in node.take():
            for to in send.to:
                if to == liar:
                    tells = {FetchCheckpoint: Checkpoints((), named), FetchChunk: ChunkOf(16, b"", b"\x83\x80\x00\x80")}
                    node.hear(liar, tells.get(type(send.message), Blocks(27, 26, ())))
                    node.hear(liar, Blocks(27, 26, ()))
                elif isinstance(send.message, Fetch | FetchCheckpoint | FetchChunk):
                    cores.nodes[to].hear(node.name, send.message)
                    for back in cores.nodes[to].take():
                        if node.name in back.to and isinstance(back.message, Blocks | Checkpoints | ChunkOf):
                            node.hear(to, back.message)
        if liar not in node.core._transfer._sources:
            node.hear(liar, Blocks(27, 26, ()))  # it pushes in
        node.wait(0.01)
    assert node.core.chain.height >= 24 and not node.core.desk.restoring


def test_blocks_after_a_state_are_asked_at_once_of_who_had_none_before_it() -> None:
    node, _ = behind(cores := Cores(4, interval=4, keep_blocks=2, transfer_blocks=4).start())
    node.hear(cores[0].name, Status(0, 0, 27))
    began = node.now
    while node.core.chain.height < 27 and node.now < began + 0.9:
        for send in node.take():
            if send.to == (cores[0].name,):
                cores[0].hear(node.name, send.message)
                for back in cores[0].take():
                    node.hear(cores[0].name, back.message)
        node.wait(0.01)
    assert node.core.chain.height == 27


def test_between_the_first_part_and_the_last_nothing_is_executed_or_signed_not_even_after_a_crash() -> None:
    cores = Cores(4, interval=4, extra=1, keep_blocks=2, transfer_blocks=4).start()
    node = joined(cores)
    begin(cores, node, 0)
    node.crash()
    assert node.core.desk.restoring and not node.core.desk.may_sign
    node.hear(cores[0].name, cores[0].core._catching_up.blocks_from(13))
    assert node.core.chain.height == 0
    late(cores, node)
    assert not node.core.desk.restoring and node.core.chain.head == cores[0].core.chain.head


@pytest.mark.parametrize("keep", [0, 3])
def test_blocks_below_the_newest_checkpoint_are_let_go_with_their_requests(keep: int) -> None:
    cores = Cores(4, interval=4, keep_blocks=keep).start()
    fill(cores, 8)
    for node in cores.nodes.values():
        node.wait(1.0)
    chain = cores[0].core.chain
    assert chain.base == 9 - keep and chain.certified(chain.base - 1) is None
    assert (chain.certified(chain.base) is not None) is (chain.base <= 8)


def test_who_asks_without_end_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = Cores(interval=4).start()
    fill(cores, 5)
    node, read = cores[0], 0
    find = node.core.chain.certified

    def counted(height: int) -> Certified | None:
        nonlocal read
        read += 1
        return find(height)

    monkeypatch.setattr(node.core.chain, "certified", counted)
    most = FETCHED_BYTES_PER_S // FETCHED_OVERHEAD
    node.take()
    for _ in range(most):
        node.hear(NodeId("asker"), Fetch(1))
    assert 0 < read <= most and 0 < len(said(node, Blocks)) <= most // 5
    for question, answer in ((FetchCheckpoint(0), Checkpoints), (FetchChunk(4, b""), ChunkOf), (Fetch(1), Blocks)):
        node.hear(NodeId("asker"), question)
        assert said(node, answer) == []
        node.hear(NodeId("another"), question)
        assert len(said(node, answer)) == 1
    node.now += 1.0
    node.hear(NodeId("asker"), Fetch(1))
    assert len(said(node, Blocks)) == 1
