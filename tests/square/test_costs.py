"""What a question costs, however large the ledger is, and an answer, however large it is."""

from typing import Any

import pytest

from meshos.consensus.ledger import queries
from meshos.errors import Refused
from meshos.protocols.square import describe, headers, knowledge, limits, proof, resolve, wire
from meshos.protocols.square.answering import Answering, Asker, Protocol
from meshos.protocols.square.budget import Budget, Rate, Rates
from tests.square.mesh import ACCOUNT, ASKER, DID, answering, done, mesh
from tests.square.test_answers import ask, refused


def counted(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> list[object]:
    """What is called there, each time that it is."""
    calls: list[object] = []
    before = getattr(where, name)

    def count(*given: Any) -> Any:
        calls.append(given)
        return before(*given)

    monkeypatch.setattr(where, name, count)
    return calls


def test_the_newest_block_and_the_organisations_are_read_once_for_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    of = mesh("abcde")
    square = answering(of.known)
    blocks, scans = counted(monkeypatch, knowledge, "decode_certified"), counted(monkeypatch, queries, "orgs")
    for height in range(of.chain.height, of.chain.height + 2):
        for _ in range(5):
            said = describe.read_description(ask(describe.NAME, describe.request(), square))
            assert said.head is not None and said.head.header.height == height and len(said.orgs) == 4
            ask(headers.NAME, headers.request(0), square)
            ask(proof.NAME, proof.request(ACCOUNT), square)
            ask(resolve.NAME, resolve.request(DID), square)
        of.grow()
    assert len(blocks) == len(scans) == 2


def test_no_change_of_the_validators_is_read_that_the_asker_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch, knowledge, "step_of")
    ask(proof.NAME, proof.request(ACCOUNT, 3))
    ask(resolve.NAME, resolve.request(DID, 3))
    assert not read
    ask(resolve.NAME, resolve.request(DID, 1))
    assert len(read) == 2


def test_who_is_far_behind_follows_headers_before_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STEPS_A_BUNDLE", 2)
    assert refused(proof.NAME, {"key": ACCOUNT}) == refused(resolve.NAME, {"did": DID}) == "square-answer-too-large"
    assert len(proof.read_bundle(ask(proof.NAME, proof.request(ACCOUNT, 1)), ACCOUNT).steps) == 2


def test_a_large_answer_is_paid_for_by_its_size() -> None:
    async def large(fields: wire.Fields, asker: Asker) -> object:
        return bytes(10 * limits.ANSWER_BYTES_A_TOKEN)

    square = Answering([Protocol("/meshos/large/1", 1, large)], Budget(Rates(Rate(1, 30), Rate(1, 30), Rate(1, 300))))
    request = wire.encode_request({})
    answers = [done(square.answer(square.protocols["/meshos/large/1"], ASKER, request, 0.0)) for _ in range(20)]
    assert square.answered["/meshos/large/1"] == 3, "eleven tokens each, the last one a debt"
    with pytest.raises(Refused) as caught:
        wire.decode_answer(answers[3])
    assert caught.value.name == "square-rate"
    later = done(square.answer(square.protocols["/meshos/large/1"], ASKER, request, 4.0))
    assert isinstance(wire.decode_answer(later), bytes), "which is paid by now"
