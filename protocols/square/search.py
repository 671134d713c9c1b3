"""``/meshos/search/1``: which agents this node knows that fit a question in plain words.

    request  {"query": text, "limit": 1…20}
    answer   {"answer": bytes, "signature": 64 bytes}
             answer   canonical CBOR {"genesis", "node", "time_ms", "query", "complete", "agents": [[record, score], …]}

A stranger's question touches what this node holds itself, and no other node: ``complete`` is false where the directory is spread over
cells that this node is not in. ``record`` is the sealed record that its owner signed; ``score`` is in millionths. The node signs the
answer with its own key, so that whoever gets a tampered or stale answer can show who gave it; for the records their owners vouch.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from meshos import cbor
from meshos.cbor import Value
from meshos.crypto.keys import SIGNATURE_BYTES
from meshos.crypto.signing import Claim, Domain, Verifier, bad_signature
from meshos.errors import Refused
from meshos.protocols.directory.limits import RECORD_BYTES
from meshos.protocols.directory.record import AgentRecord, Sealed, parse
from meshos.protocols.directory.search import DiscoverRequest, Found, check
from meshos.protocols.square import limits, wire
from meshos.protocols.square.answering import Asker, Protocol
from meshos.protocols.square.knowledge import Known

NAME = "/meshos/search/1"
COST = 40
"""Embedding a question 10 to 35 ms, the search in the index, 20 records to copy."""
TIMEOUT_S = 20.0
"""The first question loads the model."""

Search = Callable[[DiscoverRequest], Awaitable[Sequence[Found]]]
"""What this node holds itself, the best first."""

Sign = Callable[[Domain, bytes], Awaitable[bytes]]
"""By the node's key."""


@dataclass(frozen=True, slots=True)
class FoundAgent:
    """An agent's record as its owner signed it, and how well it fits, in 0..1."""

    sealed: Sealed
    record: AgentRecord
    score: float


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """What a node has found, and when; its signature held."""

    node: str
    time_ms: int
    complete: bool
    agents: tuple[FoundAgent, ...]


def domain(genesis_hash: bytes) -> Domain:
    """What a node's signature under a search's answer is for."""
    return Domain(genesis_hash, NAME, phase="answer")


def protocol(known: Known, search: Search, sign: Sign, wall_ms: Callable[[], int], *, whole: bool = True) -> Protocol:
    """The protocol, for a node that searches with ``search`` and signs with ``sign``; ``whole``: its cells are all of the directory."""

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        wire.known_only(fields, "query", "limit")
        asked = DiscoverRequest(wire.text(fields, "query", limits.QUERY_CHARS), wire.number(fields, "limit", limits.FOUND, default=10))
        check(asked)
        found = await search(asked)
        said = {
            "genesis": known.genesis.hash,
            "node": known.me.node,
            "time_ms": wall_ms(),
            "query": asked.query,
            "complete": whole,
            "agents": _within([[one.sealed.to_bytes(), _millionths(one.score)] for one in found[: asked.limit]]),
        }
        data = cbor.encode(said)
        return {"answer": data, "signature": await sign(domain(known.genesis.hash), data)}

    return Protocol(NAME, COST, answer, timeout_s=TIMEOUT_S)


def _millionths(score: float) -> int:
    return max(0, min(1_000_000, round(score * 1_000_000)))


def _within(agents: list[list[object]]) -> list[list[object]]:
    """As many of the best as fit into an answer."""
    size, kept = 0, []
    for row in agents:
        size += len(cbor.encode(row))
        if size > limits.FOUND_BYTES:
            break
        kept.append(row)
    return kept


# -- for who asks ------------------------------------------------------------------------------------------------------


def request(query: str, limit: int = 10) -> bytes:
    """For this question."""
    return wire.encode_request({"query": query, "limit": limit})


def read_answer(value: Value, *, query: str, node: str, genesis_hash: bytes, verifier: Verifier) -> SearchAnswer:
    """What ``node`` says to ``query``; raises Refused ``square-bad-answer``, ``wrong-genesis`` or ``bad-signature``."""
    match value:
        case {"answer": bytes() as data, "signature": bytes() as signature} if len(signature) == SIGNATURE_BYTES:
            claim = Claim(node, domain(genesis_hash), data, signature)
            if not verifier.verify_many([claim])[0]:
                raise bad_signature(node, claim.domain)
            return _read_said(cbor.decode(data, max_bytes=limits.ANSWER_BYTES), query, node, genesis_hash)
    raise wire.bad_answer("it is no signed answer")


def _read_said(value: Value, query: str, node: str, genesis_hash: bytes) -> SearchAnswer:
    match value:
        case {
            "genesis": genesis,
            "node": said_by,
            "time_ms": int() as time_ms,
            "query": to,
            "complete": bool() as complete,
            "agents": [*rows],
        }:
            if genesis != genesis_hash:
                raise Refused("wrong-genesis", "the answer is about another mesh")
            if said_by == node and to == query and len(rows) <= limits.FOUND:
                return SearchAnswer(node, time_ms, complete, tuple(map(_agent, rows)))
    raise wire.bad_answer("it answers another question, or for another node")


def _agent(row: Value) -> FoundAgent:
    match row:
        case [bytes() as data, int() as score] if len(data) <= RECORD_BYTES and 0 <= score <= 1_000_000:
            sealed = parse(data)
            if isinstance(sealed.entry, AgentRecord):
                return FoundAgent(sealed, sealed.entry, score / 1_000_000)
    raise wire.bad_answer("an agent in it is none")
