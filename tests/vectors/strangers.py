"""Vectors of what goes over the streams of a square (docs/reference/wire.md, 6 to 9)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from libp2p.kad_dht.pb.kademlia_pb2 import Message

from meshos import cbor
from meshos.consensus.ledger.founding import initial
from meshos.consensus.pbft.block import Block, Certified
from meshos.consensus.pbft.codec import step_fields
from meshos.consensus.pbft.records import HEAD, HeadRecord, block_key, encode_head, epoch_key
from meshos.crypto import base58, guests
from meshos.crypto.keys import multikey
from meshos.crypto.signing import Domain, Ed25519Verifier, sign
from meshos.effects import Put
from meshos.errors import Refused, busy
from meshos.ids import OrgDid, Peer
from meshos.node import applying
from meshos.node.runtime.square import routing
from meshos.protocols.directory import record
from meshos.protocols.directory.parts import Measured
from meshos.protocols.directory.profile import Profile
from meshos.protocols.directory.record import AgentRecord, Sealed, body_of, seal
from meshos.protocols.directory.search import DiscoverRequest, Found
from meshos.protocols.square import announcements, describe, headers, join, proof, resolve, search, wire
from meshos.protocols.square.answering import Answering, Asker
from meshos.protocols.square.budget import Budget
from meshos.protocols.square.join import SeedEntry
from meshos.protocols.square.knowledge import Known, head_of
from meshos.protocols.square.routes import note_of, routes_of
from meshos.protocols.tasks.tools import Tool
from tests.ledger_tree.states import Memory
from tests.square.mesh import Ledger, done
from tests.vectors.basics import refusal
from tests.vectors.bundles import ACCOUNT, FIVE
from tests.vectors.chain import GENESIS, GENESIS_FILE, NODE_CERTIFICATE, Chain, did_of, key_of, seat_of, set_of

ME = Peer(seat_of("alpha").node, did_of("alpha"))
TIME_MS = GENESIS.time_ms + 7_200_000
ASKER = Asker("12D3KooWStranger", "192.0.2.7")
ROUTES = routes_of((seat_of(name).node, note_of([f"/ip4/192.0.2.{place}/tcp/8401"])) for place, name in enumerate(FIVE, 1))


def known() -> Known:
    """What a node of alpha knows: one change of the validators, and a block after it."""
    store, chain = Memory(), Chain()
    root = store.change(dict(initial(GENESIS)))
    chain.hand_over(set_of(1, FIVE))
    store.lay([Put(epoch_key(step.validators.epoch), cbor.encode(step_fields(step))) for step in chain.steps])
    signed = chain.signed(chain.header(root))
    certified = Certified(Block(signed.header, ()), signed.certificate)
    head = HeadRecord(signed.header.height, signed.header.hash, 0, 0, root, 1, 1, chain.validators, None)
    store.lay([Put(HEAD, encode_head(head)), Put(block_key(head.height), certified.encoded)])
    ledger = Ledger(store, chain.height, 0)
    addresses = ("/ip4/192.0.2.1/tcp/8401", "/ip4/192.0.2.1/udp/8401/quic-v1")
    return Known(ME, "0.1.0", GENESIS, GENESIS_FILE, store, ledger, lambda: addresses, lambda: ROUTES)


def sealed() -> Sealed:
    """The record of an agent of alpha."""
    tool = Tool("echo", "Says it again", cbor.encode({"type": "object"}), True, True)
    profile = Profile("echo", "Says again what it is told", ("echo",), per_query=1_000, tasks=(tool,))
    dense = np.zeros(384, "<f2")
    dense[0] = 1
    entry = AgentRecord(did_of("alpha"), profile, 3, GENESIS.time_ms, "sentence-transformers/all-MiniLM-L6-v2", dense.tobytes(), b"")
    signature = sign(key_of("alpha node"), record.domain(GENESIS.hash), body_of(entry))
    return seal(entry, ME.node, signature, NODE_CERTIFICATE)


class Door:
    """That of a mesh where whoever asks is admitted."""

    def policy(self) -> str:
        """See ``join.Door``."""
        return "open"

    def seeds(self) -> Sequence[SeedEntry]:
        """See ``join.Door``."""
        return [SeedEntry(ME.node, "192.0.2.1:8201", "192.0.2.1:8301")]

    async def knock(self, application: str, invitation: str | None, address: str) -> tuple[str, bytes | None]:
        """See ``join.Door``; what is no application, or no invitation, is refused."""
        applying.read(application, GENESIS.hash)
        if invitation is not None:
            guests.read_guest(invitation, genesis_hash=GENESIS.hash, now=GENESIS.time_ms / 1_000)
        return join.ASKED, bytes(range(32))


def answering() -> Answering:
    """All that a square answers."""
    me = known()
    found = sealed()
    assert isinstance(found.entry, AgentRecord)
    one = Found(found, found.entry, Measured(), 0.875, ())

    async def here(asked: DiscoverRequest) -> Sequence[Found]:
        return [one]

    async def signs(domain: Domain, payload: bytes) -> bytes:
        return sign(key_of("alpha node"), domain, payload)

    spoken = [
        describe.protocol(me, lambda: tuple(answers.protocols)),
        headers.protocol(me),
        proof.protocol(me),
        resolve.protocol(me),
        search.protocol(me, here, signs, lambda: TIME_MS),
        join.protocol(Door()),
    ]
    answers = Answering(spoken, Budget())
    return answers


def _application() -> str:
    root = key_of("epsilon root")
    certificate = next(org.root_certificate for org in GENESIS.orgs if org.did == did_of("epsilon"))
    return applying.of_root(root, certificate, GENESIS.hash, did_of("epsilon"))


def _invitation() -> str:
    start, asked = GENESIS.time_ms // 1_000, key_of("epsilon root").public
    return guests.invite_guest(key_of("alpha root"), genesis_hash=GENESIS.hash, host=ME.org, guest=did_of("epsilon"), key=asked, now=start)


def _questions() -> list[tuple[str, dict[str, object]]]:
    return [
        (describe.NAME, {}),
        (describe.NAME, {"genesis": len(GENESIS_FILE) - 40}),
        (headers.NAME, {}),
        (headers.NAME, {"epoch": 1}),
        (proof.NAME, {"key": ACCOUNT, "epoch": 0}),
        (proof.NAME, {"key": b"account/did:mesh:enterprise:nobody", "epoch": 1}),
        (resolve.NAME, {"did": str(ME.org)}),
        (search.NAME, {"query": "say it again", "limit": 3}),
        (join.NAME, {}),
        (join.NAME, {"application": _application(), "invitation": _invitation()}),
    ]


WRONG: list[tuple[str, str, object]] = [
    ("no map", describe.NAME, []),
    ("a key that is not known", describe.NAME, {"orgs": True}),
    ("an offset that is no number", describe.NAME, {"genesis": True}),
    ("an epoch below zero", headers.NAME, {"epoch": -1}),
    ("an epoch that is a text", headers.NAME, {"epoch": "1"}),
    ("no key", proof.NAME, {}),
    ("a key without bytes", proof.NAME, {"key": b""}),
    ("a key of 129 bytes", proof.NAME, {"key": b"k" * 129}),
    ("a key that is a text", proof.NAME, {"key": "account"}),
    ("no DID", resolve.NAME, {"did": "did:web:example.org"}),
    ("an organisation that there is not", resolve.NAME, {"did": "did:mesh:enterprise:nobody"}),
    ("an empty question", search.NAME, {"query": ""}),
    ("a question of 1,001 characters", search.NAME, {"query": "q" * 1_001}),
    ("21 agents", search.NAME, {"query": "echo", "limit": 21}),
    ("no agent", search.NAME, {"query": "echo", "limit": 0}),
    ("an invitation without an application", join.NAME, {"invitation": "mesh-guest-1.AAAA"}),
    ("what is no application", join.NAME, {"application": "mesh-application1-AAAA"}),
]
"""Questions that are refused."""


def square_vectors() -> dict[str, Any]:
    """Frames; questions and their answers; refusals; announcements; Kademlia; a record."""
    answers = answering()

    def answer(name: str, request: bytes) -> bytes:
        answers.budget = Budget()
        return done(answers.answer(answers.protocols[name], ASKER, request, 0.0))

    asked = [(name, wire.encode_request(fields)) for name, fields in _questions()]
    wrong = [(why, name, cbor.encode(value)) for why, name, value in WRONG]
    return {
        "genesis": "given/first.genesis.json",
        "node": ME.node,
        "frames": [
            {"payload": one.hex(), "frame": wire.frame(one).hex()}
            for one in (b"", cbor.encode({"epoch": 1}), bytes(127), bytes(128), bytes(16_384))
        ],
        "frames_refused": [
            {"begins": begun.hex(), "most": most, "refused": refusal(wire.length_of, begun, most)}
            for begun, most in (
                (b"\x80\x00", 100),
                (b"\xff\xff\xff\xff", 1 << 27),
                (b"\x80\x80\x80\x80\x01", 1 << 27),
                (b"\x80\x20", 4_095),
            )
        ],
        "answers": [{"protocol": name, "request": request.hex(), "answer": answer(name, request).hex()} for name, request in asked],
        "refusals": [
            {
                "why": why,
                "protocol": name,
                "request": request.hex(),
                "answer": answer(name, request).hex(),
                "refused": _refused(answer(name, request)),
            }
            for why, name, request in wrong
        ],
        "encoded_refusals": [
            {"kind": type(one).__name__, "name": one.name, "detail": one.detail, "hint": one.hint, "answer": wire.encode_refusal(one).hex()}
            for one in (busy("the square"), Refused("square-rate", "x" * 600))
        ],
        "announcements": _announcements(),
        "kademlia": _kademlia(),
        "record": _record(),
    }


def _refused(answer: bytes) -> str:
    return refusal(wire.decode_answer, answer)


def _announcements() -> dict[str, Any]:
    head = head_of(known().store)
    assert head is not None
    return {
        "heads": {"topic": announcements.heads_topic(GENESIS.hash), "data": announcements.of_head(head).hex()},
        "directory": {"topic": announcements.directory_topic(GENESIS.hash), "data": announcements.of_directory(bytes(range(32)), 7).hex()},
    }


def _kademlia() -> dict[str, Any]:
    wanted = base58.decode(seat_of("gamma").node)
    request = Message(type=Message.FIND_NODE, key=wanted).SerializeToString()
    return {"protocol": routing.protocol_of(GENESIS.hash), "request": request.hex(), "answer": routing.answer(request, ROUTES).hex()}


def _record() -> dict[str, Any]:
    one = sealed()
    root = multikey(key_of("alpha root").public)
    told = {"record": one.to_bytes().hex(), "agent": one.entry.agent_id, "root": root, "content": record.content_hash(one.body).hex()}
    record.verify(one, Ed25519Verifier(), GENESIS.hash, lambda signer, certificate: OrgDid(ME.org))
    return told
