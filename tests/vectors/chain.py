"""The mesh of the vectors: a genesis that is given, keys that follow from names, and a chain of headers that they sign."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from meshos.consensus.ledger.light_client import Bundle, Signed, genesis_validators
from meshos.consensus.ledger.proofs import Proof
from meshos.consensus.pbft.block import Certificate, Header, commit_domain, requests_root
from meshos.consensus.pbft.messages import EpochStep
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.signing import sign
from meshos.genesis import Genesis, parse
from meshos.ids import OrgDid, org_did

FOLDER = Path(__file__).resolve().parent
GIVEN = FOLDER / "given"
"""What cannot be made twice alike, as certificates have random numbers: it was made once."""
GENESIS_FILE = (GIVEN / "first.genesis.json").read_bytes()
GENESIS = parse(GENESIS_FILE)
NODE_CERTIFICATE = bytes.fromhex((GIVEN / "alpha.node.der.hex").read_text())
HOUR_MS = 3_600_000


def key_of(name: str) -> SigningKey:
    """The key that is called so, such as ``alpha validator``."""
    return SigningKey(sha256(f"mesh vectors {name}".encode()).digest())


def did_of(name: str) -> OrgDid:
    """Its DID; those that have no other kind are enterprises."""
    return org_did({"gamma": "hospital", "delta": "university"}.get(name, "enterprise"), name)


def seat_of(name: str, suspended: bool = False) -> ValidatorEntry:
    """The seat of an organisation."""
    return ValidatorEntry(did_of(name), node_id(key_of(f"{name} node").public), multikey(key_of(f"{name} validator").public), suspended)


def set_of(epoch: int, names: Sequence[str], suspended: Sequence[str] = ()) -> ValidatorSet:
    """A set of these organisations."""
    return ValidatorSet(epoch, tuple(sorted((seat_of(name, name in suspended) for name in names), key=lambda seat: seat.org)))


class Chain:
    """Makes signed headers, and keeps what a light client needs of them."""

    def __init__(self, genesis: Genesis = GENESIS) -> None:
        self.genesis, self.validators = genesis, genesis_validators(genesis)
        self.steps: list[EpochStep] = []
        self.parent, self.height = genesis.hash, 0

    def header(self, root: bytes, following: ValidatorSet | None = None, requests: Sequence[bytes] = ()) -> Header:
        """The next one, with the state ``root`` of the block before it."""
        self.height += 1
        time_ms = self.genesis.time_ms + HOUR_MS * self.height
        hashes = (self.parent, root, requests_root([sha256(b"\0" + one).digest() for one in requests]))
        return Header(self.height, self.validators.epoch, time_ms, *hashes, (following or self.validators).hash)

    def signed(self, header: Header, seats: Sequence[int] | None = None, view: int = 0) -> Signed:
        """With the signatures of these seats; without seats given, of the first of those that count."""
        self.parent = header.hash
        able = [index for index, entry in enumerate(self.validators.entries) if not entry.suspended]
        chosen = able[: self.validators.q] if seats is None else seats
        rows = [(seat, self.vote(header, seat, view)) for seat in chosen]
        return Signed(header, Certificate(view, tuple(rows)))

    def vote(self, header: Header, seat: int, view: int = 0) -> bytes:
        """The signature of one seat."""
        name = str(self.validators.entries[seat].org).rpartition(":")[2]
        return sign(key_of(f"{name} validator"), commit_domain(self.genesis.hash, header.epoch, view, header.height), header.hash)

    def skip(self, blocks: int) -> None:
        """So many blocks that nobody needs."""
        for _ in range(blocks):
            self.parent = self.header(bytes(32)).hash

    def hand_over(self, following: ValidatorSet, view: int = 0) -> None:
        """The next header ends the epoch: this set decides from now on."""
        signed = self.signed(self.header(bytes(32), following), view=view)
        self.steps.append(EpochStep(signed.header, signed.certificate, following))
        self.validators = following

    def bundle(self, signed: Signed, key: bytes, value: bytes | None, proof: Proof) -> Bundle:
        """All of it."""
        return Bundle(self.genesis.hash, tuple(self.steps), signed, key, value, proof)
