"""Leaving a view and beginning the next (Castro & Liskov 1999, sections 4.4, 4.5; TOCS 2002, section 2.3.5)."""

from dataclasses import replace

import pytest

from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.messages import Blocks, Fetch, NewView, Proposal, Relay, Seen, Status, ViewChange, Vote
from meshos.consensus.pbft.view_change import (
    Choice,
    change_domain,
    change_payload,
    choose,
    new_view,
    new_view_domain,
    new_view_payload,
)
from meshos.crypto.simulated import SimulatedSigner
from meshos.ids import NodeId
from meshos.simulations.pbft.cores import GENESIS, SECRET, Cores, Node, verified
from meshos.simulations.pbft.toy import request
from tests.pbft.making import add, fill, prepared_at, refused, reproposed, signed


def change(node: Node, index: int, view: int = 1, **fields: object) -> ViewChange:
    """The promise of ``index``, signed."""
    made = replace(ViewChange(0, view, 0, GENESIS, None, (), index, b""), **fields)  # type: ignore[arg-type]
    signature = SimulatedSigner(SECRET, node.name).sign(change_domain(GENESIS, made), change_payload(made))
    return replace(made, signature=signature)


def shown(message: NewView, node: Node) -> NewView:
    signature = SimulatedSigner(SECRET, node.name).sign(new_view_domain(GENESIS, message), new_view_payload(message))
    return replace(message, signature=signature)


def pass_time(cores: Cores, seconds: float, cut: tuple[int, ...] = (), step_s: float = 0.5, drop: type | tuple[type, ...] = ()) -> None:
    """Of those that are not cut off, who hear each other."""
    for _ in range(round(seconds / step_s)):
        for number, node in enumerate(cores.nodes.values()):
            if number not in cut:
                node.wait(step_s)
        cores.deliver(cut=cut, drop=drop)


# -- what a new view begins with -----------------------------------------------------------------------------------------


def test_the_choice_is_above_the_highest_committed_height_and_takes_the_highest_prepared_view() -> None:
    one, other = b"\1" * 32, b"\2" * 32
    low = ViewChange(0, 5, 3, bytes(32), (4, other), (), 0, b"")
    old = ViewChange(0, 5, 7, bytes(32), (1, one), (), 1, b"")
    new = ViewChange(0, 5, 7, bytes(32), (2, other), (), 2, b"")
    none = ViewChange(0, 5, 7, bytes(32), None, (), 3, b"")
    assert choose([low, none]) == Choice(8)
    assert choose([low, old, none]) == Choice(8, one, 1)
    assert choose([low, old, new, none]) == Choice(8, other, 2)


def test_a_dead_primary_is_left_and_the_next_one_decides() -> None:
    cores = Cores().start()
    cores.submit(add(1), cut=[0])
    cores.lose_patience(1, 2, 3)
    cores.deliver(cut=[0])
    assert cores.heights() == [0, 1, 1, 1] and {node.core.view for node in cores.nodes.values()} == {0, 1}


def test_a_block_that_one_of_a_quorum_holds_prepared_is_carried_over_with_its_time_and_hash() -> None:
    """Section 4.4: the new primary proposes again what the promises show as prepared."""
    cores = Cores().start()
    block = prepared_at(cores, 1)
    for node in cores.nodes.values():
        node.wall_ms += 60_000  # so long after that nobody would accept the time of a fresh block
    cores.lose_patience(1, 2, 3)
    cores.deliver(cut=[0])
    assert cores.heights() == [0, 1, 1, 1]
    assert [node.decided[0].certified.block.hash for node in list(cores.nodes.values())[1:]] == [block.hash] * 3


def test_where_nothing_is_prepared_or_waits_a_null_block_comes_whatever_the_clocks_say() -> None:
    """Section 4.4: null requests fill what nothing is known of. DESIGN.md: the parent's time and a millisecond."""
    cores = Cores().start()
    for node in cores.nodes.values():
        node.core._views.leave()
        node._carry(node.core.tick(node.now, node.wall_ms))
    cores[1].wall_ms += 3_600_000
    cores.deliver()
    block = cores[2].decided[0].certified.block
    assert block.requests == () and block.header.time_ms == cores[0].config.genesis_time_ms + 1
    assert {node.core.view for node in cores.nodes.values()} == {1}


def test_a_decided_block_survives_every_view_change() -> None:
    """Section 4.5.1, safety: one replica has decided and is gone; q - 1 of those who prepared are left."""
    cores = Cores().start()
    block = prepared_at(cores, 0, 1, 2)
    for index in (1, 2, 3):
        cores[0].hear(cores[index].name, signed(Vote("commit", 0, 0, 1, block.hash, index, b""), cores[index]))
    assert cores.heights() == [1, 0, 0, 0]
    for _ in range(2):
        cores.lose_patience(1, 2, 3)
        cores.deliver(cut=[0], drop=(Proposal,))
    cores.lose_patience(1, 2, 3)
    cores.deliver(cut=[0])
    assert [node.core.chain.head for node in cores.nodes.values()] == [block.hash] * 4


def test_a_primary_that_does_not_carry_over_gets_no_vote() -> None:
    cores = Cores().start()
    block = prepared_at(cores, 2, 3)
    cores.lose_patience(1, 2, 3)
    cores.deliver(cut=[0], drop=(Proposal,))
    assert cores[2].core.desk.ballot.record.choice == Choice(1, block.hash, 0)
    other = reproposed(Proposal(1, block, 1, b""), cores[1], time_ms=block.header.time_ms + 1)
    before = len(cores[2].signed)
    cores[2].hear(cores[1].name, other)
    assert cores[2].noticed == ["not-carried-over"] and len(cores[2].signed) == before


# -- promises ------------------------------------------------------------------------------------------------------------


def test_after_its_promise_a_replica_votes_in_no_view_below() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    (send,) = [send for send in cores[0].take() if isinstance(send.message, Proposal)]
    cores[1].lose_patience()
    cores[1].hear(cores[0].name, send.message)
    assert [domain.phase for domain, _ in cores[1].signed] == ["view-change"]


def test_a_promise_tells_the_lock_and_proves_it() -> None:
    cores = Cores().start()
    block = prepared_at(cores, 2)
    cores[2].lose_patience()
    (promise,) = [send.message for send in cores[2].take() if isinstance(send.message, ViewChange)]
    assert isinstance(promise, ViewChange) and promise.prepared == (0, block.hash) and len(promise.proof) == 3
    assert verified(promise, cores[1].core)
    assert not verified(replace(promise, prepared=(0, bytes(32))), cores[1].core)
    forged = change(cores[2], 2, prepared=(0, bytes(32)), proof=promise.proof)
    assert not verified(forged, cores[1].core), "prepare votes for one block prove no other"
    assert refused(verified, change(cores[2], 2, prepared=(0, block.hash), proof=promise.proof[:2]), cores[1].core) == "no-quorum"


def test_a_new_view_needs_q_promises_for_it_and_its_own_primary() -> None:
    cores = Cores().start()
    promises = [change(cores[index], index) for index in range(4)]
    good = shown(new_view(0, 1, 1, promises[1:]), cores[1])
    assert verified(good, cores[3].core)
    assert refused(verified, shown(new_view(0, 1, 1, promises[1:3]), cores[1]), cores[3].core) == "no-quorum"
    assert refused(verified, shown(new_view(0, 1, 2, promises[1:]), cores[2]), cores[3].core) == "not-primary"
    other = [*promises[:2], change(cores[2], 2, view=2)]
    assert refused(verified, shown(replace(good, changes=tuple(other)), cores[1]), cores[3].core) == "forged-new-view"
    assert refused(verified, replace(good, epoch=1), cores[3].core) == "wrong-epoch"
    assert not verified(
        shown(replace(good, changes=(*good.changes[:2], replace(good.changes[2], signature=bytes(64)))), cores[1]), cores[3].core
    )


def test_a_new_view_that_hides_what_its_promises_hold_does_not_verify() -> None:
    """Section 4.4: replicas recompute what must be proposed. A promise is signed with what it holds."""
    cores = Cores().start()
    prepared_at(cores, 2)
    cores[2].lose_patience()
    (promise,) = [send.message for send in cores[2].take() if isinstance(send.message, ViewChange)]
    assert isinstance(promise, ViewChange)
    hidden = replace(promise, prepared=None, proof=())
    forged = shown(new_view(0, 1, 1, [change(cores[0], 0), change(cores[1], 1), hidden]), cores[1])
    assert not verified(forged, cores[3].core)
    bare = new_view(0, 1, 1, [change(cores[0], 0), change(cores[1], 1), promise])
    assert refused(verified, shown(replace(bare, proof=()), cores[1]), cores[3].core) == "no-quorum"


def test_a_new_view_on_another_chain_than_was_decided_is_refused() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver()
    liars = [change(cores[index], index, height=1, hash=b"\7" * 32) for index in (0, 1, 2)]
    cores[3].hear(cores[1].name, shown(new_view(0, 1, 1, liars), cores[1]))
    assert cores[3].noticed == ["forged-new-view"] and cores[3].core.view == 0


def test_a_new_view_that_rests_on_blocks_that_are_not_here_waits_for_them() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver(cut=[3])
    head = cores[0].core.chain.head
    ahead = [change(cores[index], index, height=1, hash=head) for index in (0, 1, 2)]
    late = cores[3]
    late.hear(cores[1].name, shown(new_view(0, 1, 1, ahead), cores[1]))
    assert late.core.view == 0
    late.wait(0.1)
    assert Fetch(1) in [send.message for send in late.take()]
    late.hear(cores[0].name, cores[0].core._catching_up.blocks_from(1))
    assert (late.core.chain.head, late.core.view) == (head, 1)


# -- liveness ------------------------------------------------------------------------------------------------------------


def test_f_plus_one_that_leave_take_the_others_along_and_f_do_not() -> None:
    """Section 4.5.2: one of f + 1 is honest, so there is a cause; f liars alone move nobody."""
    cores = Cores().start()
    cores[3].hear(cores[1].name, change(cores[1], 1))
    assert not cores[3].core._views.leaving
    cores[3].hear(cores[2].name, change(cores[2], 2, view=4))
    assert cores[3].core.desk.ballot.record.promised == 1


def test_a_part_without_a_quorum_does_not_run_ahead_through_the_views() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    for _ in range(60):
        for number in (2, 3):
            cores[number].wait(1.0)
        cores.deliver(cut=[0, 1])
    assert {cores[number].core.desk.ballot.record.promised for number in (2, 3)} == {1}


def test_patience_is_flat_at_first_then_doubles_and_is_bounded() -> None:
    views = Cores().start()[0].core._views
    found = []
    for row in range(9):
        views._in_a_row = row
        found.append(views.patience_ms())
    assert found == [1_000, 1_000, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000]


def test_nobody_loses_patience_where_nothing_waits() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver()
    for _ in range(30):
        for node in cores.nodes.values():
            node.wait(1.0)
        cores.deliver()
    assert {node.core.desk.ballot.record.promised for node in cores.nodes.values()} == {0}


def test_a_request_that_waits_for_another_one_first_is_no_reason_to_leave() -> None:
    cores = Cores().start()
    cores.submit(add(2))
    for _ in range(30):
        for node in cores.nodes.values():
            node.wait(1.0)
        cores.deliver()
    assert cores.heights() == [0] * 4 and {node.core.desk.ballot.record.promised for node in cores.nodes.values()} == {0}
    cores.submit(add(1))
    cores.deliver()
    assert len(cores[0].decided[0].certified.block.requests) + len(cores[0].decided[-1].certified.block.requests) >= 2


def test_a_primary_that_leaves_a_request_out_of_blocks_with_room_is_left() -> None:
    """Section 4.4: a backup waits for each request that it knows of, however busy the primary is with others."""
    cores = Cores().start()
    victim = add(1)
    for number in (1, 2, 3):
        cores[number].submit(victim)
        cores[number].take()
    bob = SimulatedSigner(SECRET, "bob")
    for nonce in range(1, 12):
        for node in cores.nodes.values():
            node.wait(0.5)
        cores.deliver(drop=Relay)
        cores.submit(request(bob, GENESIS, nonce, "add", 1))
        cores.deliver()
    assert min(node.core.view for node in cores.nodes.values()) >= 1
    assert cores[3].core.chain.place(request_hash(victim)) is not None


def test_who_fetches_what_was_decided_without_it_blames_no_primary_that_a_request_of_its_own_is_not_in_there() -> None:
    """It would promise one view after the other within the second, and be of no help for as long as the others take to come there."""
    cores = Cores().start()
    fill(cores, 40, cut=(3,))
    late = cores[3]
    late.submit(add(1))
    for first in range(1, 41):
        late.wait(0.1)
        late.hear(cores[0].name, Blocks(40, 1, (cores[0].decided[first - 1].certified,)))
    assert late.core.chain.height == 40 and late.core.desk.ballot.record.promised == 0


def test_who_has_left_a_view_goes_no_further_for_what_the_others_decide_in_it_meanwhile() -> None:
    cores = Cores().start()
    cores[3].submit(add(1))
    cores[3].take()
    cores[3].lose_patience()
    cores[3].wait(2.0)
    fill(cores, 30)
    assert cores[3].core.chain.height == 30 and cores[3].core.desk.ballot.record.promised == 1


def test_a_liar_that_asks_for_views_alone_is_followed_by_nobody() -> None:
    cores = Cores().start()
    for number, view in ((1, 1), (2, 1), (3, 10**9)):
        cores[number].hear(cores[0].name, change(cores[0], 0, view=view))
    pass_time(cores, 60.0)
    assert {node.core.desk.ballot.record.promised for node in cores.nodes.values()} == {0}


def test_a_primary_that_has_each_block_come_with_its_certificate_withholds_nothing_for_ever() -> None:
    """It sends its commit votes to nobody, and one validator nothing at all: nobody decides by votes, and all go on."""
    cores = Cores().start()
    liar, cut_off, victim = cores[0], cores.ids[3], add(1)
    for number in (1, 2, 3):
        cores[number].submit(victim)
        cores[number].take()

    def deliver() -> None:
        for _ in range(1_000):
            said = [(node, send) for node in cores.nodes.values() for send in node.take()]
            for node, send in said:
                for to in send.to:
                    own = node is liar and isinstance(send.message, Vote | Proposal)
                    secret = own and (to == cut_off or (isinstance(send.message, Vote) and send.message.phase == "commit"))
                    if not secret and not isinstance(send.message, Relay):
                        cores.nodes[to].hear(node.name, send.message)
            for number in (1, 2, 3):
                node = cores[number]
                if liar.core.view == 0 and node.core.chain.height < liar.core.chain.height:
                    node.hear(liar.name, liar.core._catching_up.blocks_from(node.core.chain.height + 1))

    bob = SimulatedSigner(SECRET, "bob")
    for nonce in range(1, 40):
        for node in cores.nodes.values():
            node.wait(0.5)
        deliver()
        cores.submit(request(bob, GENESIS, nonce, "add", 1))
        deliver()
    assert all(cores[number].core.chain.place(request_hash(victim)) is not None for number in (1, 2, 3))


@pytest.mark.parametrize("nonces", [(2,), (1, 1)], ids=["it waits for another one", "another one is in its place"])
def test_a_request_that_cannot_be_ordered_hides_no_other_one_that_is_withheld(nonces: tuple[int, ...]) -> None:
    cores, victim = Cores().start(), add(1)
    friend = SimulatedSigner(SECRET, "friend")
    for number in (1, 2, 3):
        cores[number].submit(request(friend, GENESIS, nonces[0], "add", 1))
    for nonce in nonces[1:]:
        cores[0].submit(request(friend, GENESIS, nonce, "add", 2))
        cores.deliver(drop=Relay)
    withheld(cores, victim)
    assert cores[3].core.chain.place(request_hash(victim)) is not None


def withheld(cores: Cores, victim: bytes, rounds: int = 20, each: int = 1) -> None:
    """All but the first primary know of ``victim``, which goes on with others' requests, so many a round."""
    for number in (1, 2, 3):
        cores[number].submit(victim)
    bob = SimulatedSigner(SECRET, "bob")
    for turn in range(rounds):
        pass_time(cores, 0.5, drop=Relay)
        for place in range(each):
            cores.submit(request(bob, GENESIS, each * turn + place + 1, "add", 1))
        cores.deliver(drop=Relay)


def test_blocks_that_a_primary_fills_itself_excuse_it_for_a_while_and_not_for_ever() -> None:
    cores, victim = Cores(batch_requests=2).start(), add(1)
    withheld(cores, victim, rounds=50, each=2)
    assert cores[3].core.chain.place(request_hash(victim)) is None and max(node.core.view for node in cores.nodes.values()) == 0
    fresh = Cores(batch_requests=2).start()
    withheld(fresh, victim, rounds=90, each=2)
    assert fresh[3].core.chain.place(request_hash(victim)) is not None


def test_who_was_away_blames_nobody_for_what_was_decided_meanwhile() -> None:
    """It knew of a request of which the others did not, and its process was stopped."""
    cores, late = Cores().start(), 3
    cores[late].submit(add(1))
    cores[late].take()
    bob = SimulatedSigner(SECRET, "bob")
    for nonce in range(1, 40):
        pass_time(cores, 0.8, cut=(late,), step_s=0.8)
        cores.submit(request(bob, GENESIS, nonce, "add", 1), cut=[late])
        cores.deliver(cut=[late])
    cores[late].wall_ms += round((cores[0].now - cores[late].now) * 1000)
    cores[late].now = cores[0].now
    cores[late].hear(cores[0].name, Status(0, 0, cores[0].core.chain.height))
    pass_time(cores, 0.3, step_s=0.06)
    cores.submit(add(1))  # as it is told to the others again
    pass_time(cores, 5.0, step_s=0.06)
    assert cores[late].core.chain.place(request_hash(add(1))) is not None
    assert {node.core.desk.ballot.record.promised for node in cores.nodes.values()} == {0}


def test_a_validator_that_left_alone_is_met_as_soon_as_another_is_missed() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores[3].lose_patience()
    cores.deliver()
    assert cores.heights() == [1, 1, 1, 1] and cores[3].core._views.leaving
    pass_time(cores, 60.0)
    cores.submit(add(2), cut=[2])
    pass_time(cores, 2.0, cut=(2,))
    assert [cores.heights()[number] for number in (0, 1, 3)] == [2, 2, 2] and not cores[3].core._views.leaving


def test_promises_that_are_heard_before_a_validator_may_speak_take_it_along_then() -> None:
    cores = Cores().start()
    for number in (2, 3):
        cores[number].submit(add(1))
        cores[number].lose_patience()
    promises = [(node.name, send.message) for node in (cores[2], cores[3]) for send in node.take() if isinstance(send.message, ViewChange)]
    cores[1].crash(witnessed=False)
    for sender, promise in promises:
        cores[1].hear(sender, promise)
    assert cores[1].core.desk.asking and cores[1].core.desk.ballot.record.promised == 0
    for other in (2, 3):
        cores[1].hear(cores[other].name, Seen(0, None, None))
    pass_time(cores, 3.0, cut=(0,))
    assert min(cores.heights()[1:]) >= 1


def test_a_request_whose_first_word_was_lost_is_told_to_the_others_too_where_the_primary_does_nothing() -> None:
    cores = Cores().start()
    cores[3].submit(add(1), relay=True)
    cores[3].take()
    told: set[NodeId] = set()
    for _ in range(40):
        cores[3].wait(0.1)
        told.update(to for send in cores[3].take() if isinstance(send.message, Relay) for to in send.to)
    assert told == {cores.ids[0], cores.ids[1], cores.ids[2]}


def test_what_cannot_be_ordered_yet_keeps_no_reminder_from_what_can() -> None:
    cores = Cores().start()
    friend = SimulatedSigner(SECRET, "friend")
    for nonce in range(2, 80):
        cores[3].submit(request(friend, GENESIS, nonce, "add", 1))
    cores[3].submit(victim := add(1))
    cores[3].take()
    cores[3].wait(0.7)
    assert any(victim in send.message.requests for send in cores[3].take() if isinstance(send.message, Relay))


@pytest.mark.parametrize("n", [4, 5, 6, 7, 10])
def test_f_dead_primaries_in_a_row_are_overcome(n: int) -> None:
    cores = Cores(n=n).start()
    f = cores.validators.f
    cores.submit(add(1), cut=range(f))
    for _ in range(40):
        for number in range(f, n):
            cores[number].wait(0.5)
        cores.deliver(cut=range(f))
    assert cores.heights()[f:] == [1] * (n - f)
    assert {cores[number].core.view for number in range(f, n)} == {f}
