"""Vectors of bytes, names, signatures and genesis (docs/reference/wire.md, 1 to 4)."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nacl import bindings

from meshos import cbor
from meshos.consensus.pbft.block import commit_domain
from meshos.crypto import base58
from meshos.crypto.keys import SigningKey, multikey, node_id, public_key_named
from meshos.crypto.signing import Domain, sign, verify
from meshos.errors import MeshError
from meshos.genesis import parse
from meshos.ids import agent_id
from meshos.node.runtime.square.routing import protocol_of
from meshos.protocols.directory import record
from meshos.protocols.square import announcements, search
from tests.vectors.chain import FOLDER, GENESIS, GENESIS_FILE, did_of, key_of

TEMPLATE_FILE = (Path(__file__).resolve().parents[2] / "genesis.json").read_bytes()
ORDER = 2**252 + 27742317777372353535851937790883648493
TORSION = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
"""A point of order 8."""


def refusal(work: Any, *given: Any) -> str:
    """The name by which ``work`` refuses."""
    try:
        work(*given)
    except MeshError as error:
        return error.name
    raise AssertionError("it was not refused")


# -- canonical CBOR ----------------------------------------------------------------------------------------------------


def json_of(value: object) -> object:
    """``value`` as JSON: bytes as ``{"hex": …}``, numbers that not every JSON reader reads exactly as ``{"number": …}``."""
    match value:
        case bytes():
            return {"hex": value.hex()}
        case float():
            return {"number": repr(value)}
        case int() if abs(value) >= 2**53 and not isinstance(value, bool):
            return {"number": str(value)}
        case list() | tuple():
            return [json_of(inner) for inner in value]
        case Mapping():
            return {str(key): json_of(inner) for key, inner in value.items()}
    return value


def _nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


VALUES: list[object] = [
    *(None, False, True, 0, 1, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**53, 2**63, 2**64 - 1),
    *(-1, -24, -25, -256, -257, -(2**32), -(2**63), -(2**64)),
    *(0.0, 1.5, 0.1, 1e300, float("inf")),
    *("", "a", "ü水𐅑", "x" * 23, "x" * 24, "x" * 256, b"", b"\x00", b"x" * 24),
    *([], [1, [2, "3"], None], {}, {"b": 1, "a": 2, "aa": 3, "B": 4, "": 5}, {"ü": 1, "zz": 2, "z" * 24: 3, "aaa": 4}),
    *(_nested(16), [bytes(32), "did:mesh:enterprise:alpha", {"key": b"account/1", "epoch": 3}]),
]

MALFORMED = {
    "nothing": "",
    "cut off": "820 1",
    "bytes behind the value": "0000",
    "a number in two bytes that fits one": "1817",
    "a number in three bytes that fits two": "1900ff",
    "a number in five bytes that fits three": "1a0000ffff",
    "a number in nine bytes that fits five": "1b00000000ffffffff",
    "a negative number in two bytes that fits one": "3817",
    "a text with a length in two bytes that fits one": "780161",
    "bytes with a length in two bytes that fits one": "580100",
    "a list with a length in two bytes that fits one": "980100",
    "a map with a length in two bytes that fits one": "b801616100",
    "bytes of indefinite length": "5f4100ff",
    "a text of indefinite length": "7f6161ff",
    "a list of indefinite length": "9f00ff",
    "a map of indefinite length": "bf616100ff",
    "keys out of order": "a2616200616100",
    "a longer key before a shorter one": "a262616100616200",
    "a key twice": "a2616100616101",
    "a key that is a number": "a10000",
    "a key that is bytes": "a1416100",
    "a tag": "c11a514b67b0",
    "a large number in a tag": "c249010000000000000000",
    "undefined": "f7",
    "a simple value": "f0",
    "a simple value in two bytes": "f8ff",
    "false in two bytes": "f814",
    "a text that is no UTF-8": "61ff",
    "a text with half of a surrogate pair": "63eda080",
    "a text cut off": "6261",
    "a list that is longer than what comes": "9affffffff00",
    "a break": "ff",
    "reserved information": "1c",
    "single precision where half is enough": "fa3fc00000",
    "double precision where single is enough": "fb3ff8000000000000",
    "another NaN": "f97e01",
    "17 lists inside one another": "81" * 17 + "00",
}


def cbor_vectors() -> dict[str, Any]:
    """Values and their bytes; bytes that are refused."""
    good = [{"value": json_of(value), "cbor": cbor.encode(value).hex()} for value in VALUES]
    bad = {why: text.replace(" ", "") for why, text in MALFORMED.items()}
    refused = [
        {"why": why, "cbor": text, "refused": refusal(lambda data: cbor.decode(data, max_bytes=1024), bytes.fromhex(text))}
        for why, text in bad.items()
    ]
    return {"values": good, "refused": refused}


# -- keys and signatures -----------------------------------------------------------------------------------------------


def key_vectors() -> dict[str, Any]:
    """Seeds, keys and their names; names that are refused; ids of agents."""
    keys = [SigningKey(bytes(range(32))), SigningKey(bytes(32)), key_of("alpha root")]
    said = [
        {"seed": key.seed().hex(), "public": key.public.raw.hex(), "node": node_id(key.public), "multikey": multikey(key.public)}
        for key in keys
    ]
    mine = keys[0].public.raw
    wrong = {
        "the neutral element": (1).to_bytes(32, "little"),
        "a point of order 8": TORSION,
        "a key with a part of order 8": bindings.crypto_core_ed25519_add(mine, TORSION),
        "no point": (2).to_bytes(32, "little"),
        "a coordinate that is not below 2**255 - 19": (2**255 - 18).to_bytes(32, "little"),
    }
    names = {why: _multikey(raw) for why, raw in wrong.items()}
    good = multikey(keys[0].public)
    names |= {
        "one character more": good + "1",
        "one less": good[:-1],
        "another letter of base": "f" + good[1:],
        "a 0": good[:9] + "0" + good[10:],
    }
    refused = [{"why": why, "name": name, "refused": refusal(public_key_named, name)} for why, name in names.items()]
    did, name = did_of("alpha"), "io.github.alpha/echo"
    return {"keys": said, "refused": refused, "agents": [{"org": did, "name": name, "id": agent_id(did, name)}]}


def _multikey(raw: bytes) -> str:
    return "z" + base58.encode(b"\xed\x01" + raw)


def signing_vectors() -> dict[str, Any]:
    """Domains, what is signed in them, and signatures; the wrong ones are of the first key over the first message."""
    hash_ = GENESIS.hash
    key, payload = key_of("alpha validator"), bytes(range(32))
    domains = [commit_domain(hash_, 0, 2, 7), search.domain(hash_), record.domain(hash_), Domain(hash_, "x" * 128, 2**63 - 1, 1, 0, "ü")]
    said = []
    for domain in domains:
        fields = [domain.protocol, domain.epoch, domain.view, domain.height, domain.phase]
        signature = sign(key, domain, payload)
        row = {"key": multikey(key.public), "genesis": hash_.hex(), "fields": json_of(fields), "domain": bytes(domain).hex()}
        said.append({**row, "payload": payload.hex(), "signature": signature.hex()})
    wrong = [
        {"why": why, "signature": one.hex(), "refused": refusal(verify, key.public, domains[0], payload, one)}
        for why, one in _wrong_signatures(key, domains[0], payload)
    ]
    return {"signatures": said, "refused": wrong}


def _wrong_signatures(key: SigningKey, domain: Domain, payload: bytes) -> Iterator[tuple[str, bytes]]:
    """See ``signing_vectors``; those of RFC 8032 that libraries differ on, among them."""
    good, message, public = sign(key, domain, payload), bytes(domain) + payload, key.public.raw
    secret = int.from_bytes(hashlib.sha512(key.seed()).digest()[:32], "little") & (2**254 - 8) | 2**254

    def with_r(point: bytes, r: int) -> bytes:
        k = int.from_bytes(hashlib.sha512(point + public + message).digest(), "little")
        return point + ((r + k * secret) % ORDER).to_bytes(32, "little")

    point = bindings.crypto_scalarmult_ed25519_base_noclamp((5).to_bytes(32, "little"))
    verify(key.public, domain, payload, with_r(point, 5))  # so they are wrong for nothing but what is said of them
    yield "a bit of it is another", bytes([good[0] ^ 1]) + good[1:]
    yield "it has 63 bytes", good[:-1]
    yield "it is of the payload alone", key.sign_bytes(payload)
    yield "it is of another phase", sign(key, Domain(domain.genesis_hash, "pbft", 0, 2, 7, "prepare"), payload)
    yield "S is not below the order", good[:32] + (int.from_bytes(good[32:], "little") + ORDER).to_bytes(32, "little")
    yield (
        "R has a part of order 8, which only a check with the cofactor passes over",
        with_r(bindings.crypto_core_ed25519_add(point, TORSION), 5),
    )
    yield "R is the neutral element", with_r((1).to_bytes(32, "little"), 0)


# -- genesis -----------------------------------------------------------------------------------------------------------


def genesis_vectors() -> dict[str, Any]:
    """Files, and what their hash makes."""
    return {"genesis": [_genesis("given/first.genesis.json", GENESIS_FILE), _genesis("../../genesis.json", TEMPLATE_FILE)]}


def _genesis(path: str, data: bytes) -> dict[str, Any]:
    assert (FOLDER / path).read_bytes() == data
    genesis = parse(data)
    topics = {"heads": announcements.heads_topic(genesis.hash), "directory": announcements.directory_topic(genesis.hash)}
    return {"file": path, "hash": genesis.hash.hex(), "mesh_id": genesis.mesh_id, "kademlia": protocol_of(genesis.hash), **topics}
