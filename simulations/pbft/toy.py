"""A toy ledger: what the agreement needs of an application, and nothing else.

Accounts with a balance and a nonce; the seats of the validators; who is suspended; a time that something waits for. A request is
``[payload, signature]`` with the payload ``[client, nonce, operation, arguments]``, or an accusation, which needs no signature of its own.
The root is a hash of eight hashes of parts, so that a state travels in parts that prove themselves.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from meshos import cbor
from meshos.consensus.pbft.application import Executed, Restored
from meshos.consensus.pbft.block import Block
from meshos.consensus.pbft.evidence import decode_evidence, evidence_claims
from meshos.consensus.pbft.limits import MAX_CHUNK_BYTES, MAX_REQUEST_BYTES
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet, decode_validators, encode_validators
from meshos.crypto.signing import Claim, Domain, Signer
from meshos.effects import Delete, Put, Write
from meshos.errors import MeshError, Refused
from meshos.ids import NodeId, OrgDid
from meshos.storage.store import View

PARTS = 8
PREFIX = b"toy/"
SEATS = b"toy/seats"
WAITS = b"toy/waits"

Sets = Callable[[int], ValidatorSet | None]


def request(signer: Signer, genesis_hash: bytes, nonce: int, operation: str, argument: object = None) -> bytes:
    """A signed request of the client ``signer.name``."""
    payload = cbor.encode([signer.name, nonce, operation, argument])
    return cbor.encode([payload, signer.sign(Domain(genesis_hash, "toy"), payload)])


class Toy:
    """``sets`` knows the validators of an epoch, for evidence; ``seats`` are those of genesis."""

    def __init__(self, genesis_hash: bytes, seats: ValidatorSet) -> None:
        self._genesis_hash = genesis_hash
        self._seats = seats
        self.sets: Sets = lambda epoch: None

    def genesis(self) -> Executed:
        """See ``Application``."""
        state = {SEATS: encode_validators(self._seats)}
        return Executed(root_of(state), tuple(Put(key, value) for key, value in state.items()), ())

    def claims(self, request: bytes) -> Sequence[Claim]:
        """See ``Application``."""
        match cbor.decode(request, max_bytes=MAX_REQUEST_BYTES):
            case ["accuse", bytes() as data]:
                evidence = decode_evidence(data)
                validators = self.sets(evidence.one.epoch)
                if validators is None:
                    raise Refused("wrong-epoch", "evidence of an epoch that is not known here")
                return evidence_claims(evidence, self._genesis_hash, validators)
            case [bytes() as payload, bytes() as signature]:
                client, *_ = _payload(payload)
                return [Claim(client, Domain(self._genesis_hash, "toy"), payload, signature)]
        raise Refused("bad-encoding", "this is no request")

    def admit(self, view: View, request: bytes, now_ms: int) -> MeshError | None:
        """See ``Application``. A client's requests are ordered one after the other; one that is ahead waits."""
        error = ToyBatch(self, view).admit(request)
        return None if isinstance(error, Ahead) else error

    def batch(self, view: View, now_ms: int) -> "ToyBatch":
        """See ``Application``."""
        return ToyBatch(self, view)

    def execute(self, view: View, block: Block) -> Executed:
        """See ``Application``."""
        state = dict(view.scan(PREFIX))
        before = dict(state)
        results = tuple(self._apply(state, request, block.header.time_ms) for request in block.requests)
        if WAITS in state and int.from_bytes(state[WAITS], "big") <= block.header.time_ms:
            del state[WAITS]
        wanted = decode_validators(state[SEATS]) if state[SEATS] != before[SEATS] else None
        writes: list[Write] = [Put(key, value) for key, value in state.items() if before.get(key) != value]
        writes += [Delete(key) for key in before if key not in state]
        return Executed(root_of(state), tuple(writes), results, wanted)

    def wants_block(self, view: View, now_ms: int) -> bool:
        """See ``Application``."""
        return view.get(WAITS) is not None

    def accusation(self, evidence: bytes) -> bytes | None:
        """See ``Application``."""
        return cbor.encode(["accuse", evidence])

    def chunk(self, view: View, at: bytes) -> bytes:
        """See ``Application``: the hashes of all parts, and one of them."""
        number = at[0] if at else 0
        if number >= PARTS:
            raise Refused("bad-encoding", "there is no such part")
        parts = _parts(dict(view.scan(PREFIX)))
        return cbor.encode([[_part_hash(part) for part in parts], number, sorted(parts[number].items())])

    def restore(self, view: View, chunk: bytes, root: bytes) -> Restored:
        """See ``Application``."""
        match cbor.decode(chunk, max_bytes=MAX_CHUNK_BYTES):
            case [[*hashes], int() as number, [*rows]] if len(hashes) == PARTS and 0 <= number < PARTS:
                part = dict(_row(row) for row in rows)
                proven = hashlib.sha256(b"".join(h for h in hashes if isinstance(h, bytes))).digest() == root
                if proven and hashes[number] == _part_hash(part) and all(_place(key) == number for key in part):
                    stale = [key for key, _ in view.scan(PREFIX) if _place(key) == number and key not in part]
                    writes: list[Write] = [Delete(key) for key in stale]
                    writes += [Put(key, value) for key, value in part.items()]
                    return Restored(tuple(writes), bytes([number + 1]) if number + 1 < PARTS else None)
        raise Refused("bad-encoding", "this is no part of the state")

    def _apply(self, state: dict[bytes, bytes], request: bytes, now_ms: int) -> bytes:
        match cbor.decode(request, max_bytes=MAX_REQUEST_BYTES):
            case ["accuse", bytes() as data]:
                return self._suspend(state, data)
            case [bytes() as payload, bytes()]:
                client, nonce, operation, argument = _payload(payload)
                balance, last = _account(state.get(_key(client)))
                if nonce != last + 1:
                    return b"stale"
                if operation == "add" and isinstance(argument, int):
                    balance += argument
                elif operation == "wait" and isinstance(argument, int):
                    state[WAITS] = (now_ms + argument).to_bytes(8, "big")
                elif operation == "seats" and isinstance(argument, bytes):
                    self._reseat(state, decode_validators(argument))
                state[_key(client)] = cbor.encode([balance, nonce])
                return str(balance).encode()
        return b"malformed"

    def _reseat(self, state: dict[bytes, bytes], wanted: ValidatorSet) -> None:
        """New seats; who is suspended stays so for as long as it has its key."""
        suspended = {entry.key for entry in decode_validators(state[SEATS]).entries if entry.suspended}
        entries = tuple(replace(entry, suspended=entry.key in suspended) for entry in wanted.entries)
        state[SEATS] = encode_validators(replace(wanted, entries=entries))

    def _suspend(self, state: dict[bytes, bytes], data: bytes) -> bytes:
        guilty = self.guilty(data)
        seats = decode_validators(state[SEATS])
        if guilty is None:
            return b"unknown"
        entries = tuple(replace(entry, suspended=entry.suspended or entry.key == guilty.key) for entry in seats.entries)
        state[SEATS] = encode_validators(replace(seats, entries=entries))
        return b"suspended"

    def guilty(self, data: bytes) -> ValidatorEntry | None:
        """Whom evidence speaks of."""
        vote = decode_evidence(data).one
        validators = self.sets(vote.epoch)
        return validators.entries[vote.index] if validators is not None and vote.index < validators.n else None


def _row(row: object) -> tuple[bytes, bytes]:
    match row:
        case [bytes() as key, bytes() as value]:
            return key, value
    raise Refused("bad-encoding", "this is no entry of a state")


class Ahead(Refused):
    """A request whose nonce is not the next one yet."""


class ToyBatch:
    """See ``Batch``."""

    def __init__(self, toy: Toy, view: View) -> None:
        self._toy = toy
        self._view = view
        self._last: dict[str, int] = {}
        self._accused: set[str] = set()

    def admit(self, request: bytes) -> MeshError | None:
        """See ``Batch``."""
        match cbor.decode(request, max_bytes=MAX_REQUEST_BYTES):
            case ["accuse", bytes() as data]:
                return self._accuse(data)
            case [bytes() as payload, bytes()]:
                client, nonce, *_ = _payload(payload)
                last = self._last.get(client)
                if last is None:
                    _, last = _account(self._view.get(_key(client)))
                if nonce == last + 1:
                    self._last[client] = nonce
                    return None
                return (Ahead if nonce > last else Refused)("request-repeated", f"nonce {nonce} after {last}")
        return Refused("bad-encoding", "this is no request")

    def _accuse(self, data: bytes) -> MeshError | None:
        guilty = self._toy.guilty(data)
        voting = (
            [] if guilty is None else [entry for entry in _seats(self._view).entries if entry.key == guilty.key and not entry.suspended]
        )
        if guilty is None or not voting or guilty.key in self._accused:
            return Refused("request-repeated", "nobody is to be suspended for this")
        self._accused.add(guilty.key)
        return None


def root_of(state: dict[bytes, bytes]) -> bytes:
    """Of a whole state."""
    return hashlib.sha256(b"".join(_part_hash(part) for part in _parts(state))).digest()


def _parts(state: dict[bytes, bytes]) -> list[dict[bytes, bytes]]:
    parts: list[dict[bytes, bytes]] = [{} for _ in range(PARTS)]
    for key, value in state.items():
        parts[_place(key)][key] = value
    return parts


def _place(key: bytes) -> int:
    return hashlib.sha256(key).digest()[0] % PARTS


def _part_hash(part: dict[bytes, bytes]) -> bytes:
    return hashlib.sha256(cbor.encode(sorted(part.items()))).digest()


def _key(client: str) -> bytes:
    return PREFIX + b"a/" + client.encode()


def _account(data: bytes | None) -> tuple[int, int]:
    if data is None:
        return 0, 0
    match cbor.decode(data, max_bytes=64):
        case [int() as balance, int() as nonce]:
            return balance, nonce
    raise Refused("bad-encoding", "this is no account")


def _payload(data: bytes) -> tuple[str, int, str, object]:
    match cbor.decode(data, max_bytes=MAX_REQUEST_BYTES):
        case [str() as client, int() as nonce, str() as operation, argument]:
            return client, nonce, operation, argument
    raise Refused("bad-encoding", "this is no payload")


def _seats(view: View) -> ValidatorSet:
    data = view.get(SEATS)
    assert data is not None
    return decode_validators(data)


def seat(org: str, node: NodeId) -> ValidatorEntry:
    """In simulations a node's name is its key's too."""
    return ValidatorEntry(OrgDid(org), node, str(node))
