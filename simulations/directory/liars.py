"""Holders that lie in what they answer to searches: each lie is the honest answer, changed as somebody might who gains by it.

What a holder says of its cells in summaries is another matter (``DirectoryMesh.tell_summaries``), and what it hands to those that sync
with it stays honest here.
"""

import dataclasses
from collections.abc import Callable, Mapping

from meshos.ids import AgentId
from meshos.protocols.directory.answering import answered
from meshos.protocols.directory.cells.query import Brief, CellAnswer, decode_search, encode_answer
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import AgentRecord, Sealed, parse, seal
from meshos.protocols.rpc.events import Inbound
from meshos.simulations.directory.mesh import Lie

Change = Callable[[CellAnswer], CellAnswer]

FRIENDS = 3
"""So many are raised to the top, or made up, in one answer."""


def drop(answer: CellAnswer) -> CellAnswer:
    """Nothing was found."""
    return CellAnswer(answer.cells, (), ())


def inflate(answer: CellAnswer) -> CellAnswer:
    """The holder's friends, which fit worst, come first."""
    friends = tuple(brief._replace(score=0.99 - at / 1000) for at, brief in enumerate(answer.found[-FRIENDS:]))
    rest = answer.found[: len(answer.found) - len(friends)]
    return CellAnswer(answer.cells, (*friends, *rest), ())  # without records, which would have to be those of the first


def stale(former: Mapping[AgentId, Sealed]) -> Change:
    """Everything as it was a version ago, signed and all: at prices that are not asked any more. What is new stays as it is."""

    def aged(answer: CellAnswer) -> CellAnswer:
        found = tuple(_former(brief, former) if brief.id in former else brief for brief in answer.found)
        first = zip(answer.sealed, found, strict=False)
        sealed = tuple(former[brief.id].to_bytes() if brief.id in former else data for data, brief in first)
        return CellAnswer(answer.cells, found, sealed)

    return aged


def _former(brief: Brief, former: Mapping[AgentId, Sealed]) -> Brief:
    old = former[brief.id]
    assert isinstance(old.entry, AgentRecord)
    return brief._replace(version=old.entry.version, digest=old.digest, price=old.entry.profile.per_query)


def forge(answer: CellAnswer) -> CellAnswer:
    """The best are there in a higher version that their owners never signed."""
    found, sealed = list(answer.found), []
    for at, data in enumerate(answer.sealed):
        one = parse(data)
        if at < FRIENDS and isinstance(one.entry, AgentRecord):
            entry = dataclasses.replace(one.entry, version=one.entry.version + 1)
            one = _resealed(one, entry)
            found[at] = found[at]._replace(version=entry.version, digest=one.digest, score=0.99)
        sealed.append(one.to_bytes())
    return CellAnswer(answer.cells, tuple(found), tuple(sealed))


def _resealed(one: Sealed, entry: AgentRecord) -> Sealed:
    return seal(entry, one.signer, one.signature, one.proof)


def lie(change: Change) -> Lie:
    """A search service that answers with what ``change`` makes of the honest answer."""

    async def lying(parts: Parts, inbound: Inbound) -> bytes:
        return encode_answer(change(await answered(parts, decode_search(inbound.body))))

    return lying
