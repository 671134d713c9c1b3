"""Vectors of blocks and of the state (docs/reference/wire.md, 5.1 to 5.5)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from meshos import cbor
from meshos.consensus.ledger import proofs, tree
from meshos.consensus.ledger.light_client import Signed
from meshos.consensus.ledger.nodes import position
from meshos.consensus.ledger.parameters import OPEN, PARAMETERS, SPECS, Parameters, changed, from_genesis
from meshos.consensus.ledger.proofs import Proof, encode_proof
from meshos.consensus.pbft.block import certificate_claims, certificate_fields, request_hash, requests_root
from meshos.consensus.pbft.quorum import faults, quorum
from meshos.consensus.pbft.validators import ValidatorSet, encode_validators
from meshos.crypto.signing import Ed25519Verifier
from meshos.genesis_content import MESH
from tests.ledger_tree.states import Memory, crowded
from tests.vectors.basics import refusal
from tests.vectors.chain import GENESIS, Chain, set_of

VERIFIER = Ed25519Verifier()

# -- blocks ------------------------------------------------------------------------------------------------------------


def block_vectors() -> dict[str, Any]:
    """Sets, quorums, headers, certificates, and the roots of requests."""
    chain = Chain()
    first = chain.validators
    header = chain.header(bytes(32), requests=[b"one", b"two", b"three"])
    signed = chain.signed(header, [0, 2, 3], view=1)
    sets = [first, set_of(1, ["alpha", "beta", "gamma", "delta", "epsilon"], ["beta"])]
    quorums = [[n, faults(n), quorum(n)] for n in (*range(1, 17), 31, 64, 100)]
    requests = [[b"%d" % number for number in range(count)] for count in (0, 1, 2, 3, 4, 5, 7, 8)]
    return {
        "genesis": GENESIS.hash.hex(),
        "validators": [{"cbor": encode_validators(one).hex(), "hash": one.hash.hex(), "f": one.f, "q": one.q} for one in sets],
        "quorums": quorums,
        "headers": [{"cbor": header.encoded.hex(), "hash": header.hash.hex()}],
        "certificates": [_certificate(signed, first)],
        "requests": [
            {"requests": [one.hex() for one in row], "root": requests_root([request_hash(one) for one in row]).hex()} for row in requests
        ],
    }


def _certificate(signed: Signed, validators: ValidatorSet) -> dict[str, Any]:
    claims = certificate_claims(GENESIS.hash, signed.header, signed.certificate, validators)
    assert VERIFIER.verify_many(claims) == [True] * len(claims)
    encoded = cbor.encode(certificate_fields(signed.certificate))
    return {"header": signed.header.encoded.hex(), "validators": encode_validators(validators).hex(), "cbor": encoded.hex()}


# -- the state ---------------------------------------------------------------------------------------------------------


def crowded_state() -> Memory:
    """100 accounts, and twelve keys that stand three pages deep."""
    state = Memory()
    state.change({b"account/%d" % number: cbor.encode([1_000 * number, True]) for number in range(100)})
    state.change({key: cbor.encode([number]) for number, key in enumerate(crowded(12, 3))})
    return state


def tree_vectors() -> dict[str, Any]:
    """A state, what it hashes to, and proofs of what is there and what is not; then proofs of nothing; then parameters as they are kept."""
    state = crowded_state()
    root = tree.root(state)
    entries = {key.removeprefix(b"s/"): value for key, value in state.scan(b"s/")}
    keys = [b"account/7", crowded(1, 3)[0], b"account/100", *_places(state)]
    found = [(key, entries.get(key), tree.prove(state, key)) for key in keys]
    small = _small_states()
    return {
        "entries": [[key.hex(), value.hex()] for key, value in sorted(entries.items())],
        "root": root.hex(),
        "proofs": [_proof(root, *one) for one in found],
        "small": [{"entries": [[k.hex(), v.hex()] for k, v in sorted(one.items())], "root": _root(one)} for one in small],
        "refused": [{**row, "root": root.hex()} for row in _wrong_proofs(root, *found[0], found[1][2])],
        "parameters": [_parameters(one) for one in _parameters_of_meshes()],
    }


def _parameters_of_meshes() -> Iterator[Parameters]:
    """As in a genesis; one that admits whoever asks; with a gift besides; and where a coordinator has changed another one alone."""
    yield (one := from_genesis(replace(GENESIS, testnet=False)))
    for changes in ({"admission": OPEN}, {"admission-gift": 100 * MESH}):
        one = changed(one, changes)
        one = replace(one, settled=one.values)
        yield one
    yield changed(one, {"dispute-ms": 7_200_000})


def _parameters(row: Parameters) -> dict[str, Any]:
    told = {
        "version": row.version,
        "values": dict(zip(SPECS, row.values, strict=True)),
        "settled": dict(zip(SPECS, row.settled, strict=True)),
    }
    return {**told, "cbor": PARAMETERS.encode(row).hex()}


def _places(state: Memory) -> list[bytes]:
    """A key whose place is empty, and one whose place has a leaf of others."""
    absent = [b"nobody/%d" % number for number in range(1_000)]
    empty = next(key for key in absent if not tree.prove(state, key).entries)
    return [empty, next(key for key in absent if len(tree.prove(state, key).entries) > 1)]


def _small_states() -> list[dict[bytes, bytes]]:
    rows = {b"key/%d" % number: b"%d" % number for number in range(9)}
    return [{}, *({key: rows[key] for key in list(rows)[:count]} for count in (1, 8, 9))]


def _root(entries: dict[bytes, bytes]) -> str:
    state = Memory()
    return (state.change(dict(entries)) if entries else tree.root(state)).hex()


def _proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> dict[str, Any]:
    proofs.verify(root, key, value, proof)
    told = {"key": key.hex(), "position": position(key), "value": None if value is None else value.hex()}
    return {**told, "root": root.hex(), "proof": encode_proof(proof).hex()}


def _wrong_proofs(root: bytes, key: bytes, value: bytes | None, proof: Proof, other: Proof) -> Iterator[dict[str, Any]]:
    (first, *rest), rows = proof.levels, proof.entries
    assert value is not None
    wrong: dict[str, tuple[bytes, bytes | None, Proof]] = {
        "another value": (key, value + b"x", proof),
        "it is said not to be there": (key, None, proof),
        "another key": (b"account/8", value, proof),
        "a hash beside the way is another": (key, value, replace(proof, levels=(bytes([first[0] ^ 1]) + first[1:], *rest))),
        "a page is left out": (key, value, replace(proof, levels=tuple(rest))),
        "a page too many": (key, value, replace(proof, levels=(first, *proof.levels))),
        "the leaf is left out, to show absence": (key, None, replace(proof, entries=())),
        "an entry of the leaf is left out": (key, None, replace(proof, entries=tuple(row for row in rows if row[0] != key))),
        "the way to another key": (key, value, replace(proof, levels=other.levels)),
    }
    forms = {
        "a level of 191 bytes": [[first[:-1], *rest], rows],
        "65 levels": [[first] * 65, rows],
        "9 entries": [proof.levels, [(b"%d" % number, bytes(32)) for number in range(9)]],
        "entries out of order": [proof.levels, [(b"b", bytes(32)), (b"a", bytes(32))]],
        "an entry twice": [proof.levels, [(b"a", bytes(32)), (b"a", bytes(32))]],
        "a key without bytes": [proof.levels, [(b"", bytes(32))]],
        "a key of 129 bytes": [proof.levels, [(b"k" * 129, bytes(32))]],
        "a value hash of 31 bytes": [proof.levels, [(key, bytes(31))]],
        "a third part": [proof.levels, rows, 0],
        "no list": b"proof",
    }
    for why, (key_, value_, proof_) in wrong.items():
        name = refusal(proofs.verify, root, key_, value_, proof_)
        yield _refused(why, key_, value_, encode_proof(proof_), name)
    for why, form in forms.items():
        yield _refused(why, key, value, cbor.encode(form), refusal(proofs.decode_proof, cbor.encode(form)))


def _refused(why: str, key: bytes, value: bytes | None, proof: bytes, name: str) -> dict[str, Any]:
    told = {"why": why, "key": key.hex(), "value": None if value is None else value.hex()}
    return {**told, "proof": proof.hex(), "refused": name}
