"""Catching up by blocks that prove themselves: whom a node asks for them, and what counts as an answer."""

from dataclasses import replace

from meshos.consensus.pbft.messages import Blocks, Fetch, Status, Vote
from meshos.simulations.pbft.cores import Cores
from tests.pbft.making import add, behind, said, signed


def test_who_hears_that_others_are_further_fetches_blocks_from_them() -> None:
    cores = Cores().start()
    for nonce in (1, 2, 3):
        cores.submit(add(nonce))
        cores.deliver(cut=[3])
    node = cores[3]
    node.hear(cores[0].name, Status(0, 0, 3))
    node.wait(0.1)
    assert said(node, Fetch) == [Fetch(1)]
    cores[0].hear(node.name, Fetch(1))
    (blocks,) = said(cores[0], Blocks)
    node.hear(cores[0].name, blocks)
    assert node.core.chain.head == cores[0].core.chain.head


def test_a_node_that_claims_more_than_it_gives_is_left_for_another() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver(cut=[3])
    node = cores[3]
    node.hear(cores[2].name, Status(0, 0, 10**6))
    node.wait(0.1)
    node.take()
    node.hear(cores[2].name, Blocks(10**6, 1, ()))
    node.hear(cores[2].name, Status(0, 0, 10**6))
    node.hear(cores[0].name, Status(0, 0, 1))
    node.wait(0.1)
    asked = [send.to for send in node.take() if isinstance(send.message, Fetch)]
    assert asked == [(cores[0].name,)]


def test_blocks_out_of_order_or_from_the_past_are_passed_over() -> None:
    cores = Cores().start()
    for nonce in (1, 2):
        cores.submit(add(nonce))
        cores.deliver(cut=[3])
    blocks = cores[0].core._catching_up.blocks_from(1)
    node = cores[3]
    node.hear(cores[0].name, replace(blocks, blocks=blocks.blocks[1:]))
    assert node.core.chain.height == 0
    node.hear(cores[0].name, blocks)
    node.hear(cores[0].name, blocks)
    assert node.core.chain.height == 2


def test_who_takes_back_what_it_has_claimed_and_claims_it_anew_is_asked_now_and_then_and_not_without_end() -> None:
    node, _ = behind(cores := Cores(4, interval=4, keep_blocks=2, transfer_blocks=40).start())
    liar = cores[0].name
    node.hear(liar, Status(0, 0, 13))
    asked, ends = 0, node.now + 5.0
    while node.now < ends:
        for send in node.take():
            if send.to == (liar,) and isinstance(send.message, Fetch):
                asked += 1
                node.hear(liar, Blocks(12, 1, ()))
                node.hear(liar, Status(0, 0, 13))
        node.wait(0.001)
    assert 4 <= asked <= 10, "once in a time limit of a question"


def test_an_empty_answer_is_no_better_for_a_block_that_came_from_another_meanwhile() -> None:
    node, _ = behind(cores := Cores(4, interval=4, keep_blocks=20, transfer_blocks=4_000).start())
    liar, blocks = cores[0].name, cores[1].core._catching_up.blocks_from(13)
    asked = 0
    for place in range(12):
        node.hear(liar, Status(0, 0, 1_000))
        node.wait(0.1)
        asked += len(said(node, Fetch))
        node.hear(cores[1].name, replace(blocks, height=13 + place, blocks=blocks.blocks[place : place + 1]))
        node.hear(liar, Blocks(1_000, 1, ()))
    assert asked == 1


def test_blocks_that_were_not_asked_for_are_not_taken_for_the_answer() -> None:
    node, _ = behind(cores := Cores(4, interval=4, keep_blocks=20, transfer_blocks=40).start())
    other, blocks = cores[0].name, cores[0].core._catching_up.blocks_from(13)
    node.hear(other, Status(0, 0, 27))
    node.wait(0.1)
    assert said(node, Fetch) == [Fetch(13)]
    node.hear(other, replace(blocks, blocks=blocks.blocks[-1:]))  # the newest, as to those that follow
    node.hear(other, replace(blocks, blocks=blocks.blocks[:1]))
    assert said(node, Fetch) == [Fetch(14)]


def test_whose_answer_has_crossed_with_the_blocks_from_another_is_asked_again_at_once() -> None:
    node, _ = behind(cores := Cores(4, interval=4, keep_blocks=20, transfer_blocks=40).start())
    asked, other = cores[0], cores[1]
    node.hear(asked.name, Status(0, 0, 13))
    node.wait(0.1)
    assert said(node, Fetch) == [Fetch(13)]
    node.hear(other.name, replace(blocks := other.core._catching_up.blocks_from(13), blocks=blocks.blocks[:2]))
    node.hear(asked.name, replace(blocks, height=13, blocks=blocks.blocks[:1]))
    node.hear(asked.name, Status(0, 0, 27))
    node.wait(0.1)
    assert [send.to for send in node.take() if send.message == Fetch(15)] == [(asked.name,)]


def test_a_validator_that_was_away_is_helped_by_those_whom_its_votes_reach() -> None:
    cores = Cores().start()
    cores.submit(add(1))
    cores.deliver(cut=[3])
    for node in cores.nodes.values():
        node.wait(1.0)
        node.take()
    stuck = signed(Vote("prepare", 0, 0, 1, bytes(32), 3, b""), cores[3])
    assert not cores[0].core.worth(cores[0].now, cores[3].name, stuck), "not worth a check: it is answered"
    answers = list(cores[0].core.taken())
    assert len(answers) == 1 and isinstance(answers[0].message, Blocks)  # type: ignore[attr-defined]
