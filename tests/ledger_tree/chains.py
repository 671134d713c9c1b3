"""Chains of headers that validators signed, for whoever must believe nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from meshos.consensus.ledger.light_client import Bundle, Signed, genesis_validators
from meshos.consensus.ledger.proofs import Proof
from meshos.consensus.pbft.block import Certificate, Header, commit_domain
from meshos.consensus.pbft.messages import EpochStep
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.certificates import new_root
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.signing import sign
from meshos.genesis import Genesis, Org, Validator
from meshos.ids import NodeId, org_did


def key_of(name: str) -> SigningKey:
    """The validator key of an organisation in the tests."""
    return SigningKey(sha256(name.encode()).digest())


def entry(name: str) -> ValidatorEntry:
    """Its seat."""
    return ValidatorEntry(org_did("enterprise", name), NodeId(f"node-{name}"), multikey(key_of(name).public))


def org(name: str) -> Org:
    """A founder."""
    root, did = key_of("root-" + name), org_did("enterprise", name)
    validator = Validator(node_id(key_of("node-" + name).public), multikey(key_of(name).public))
    return Org(did, multikey(root.public), new_root(root, did, now=1_800_000_000), validator)


def founded(template: Genesis, names: Sequence[str]) -> Genesis:
    """A genesis of these organisations."""
    return replace(template, orgs=tuple(map(org, names)), meta_coordinators=(), placement_seed=bytes(31) + b"1")


class Chain:
    """Makes signed headers, and keeps what a light client needs of them."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.validators = genesis_validators(genesis)
        self.steps: list[EpochStep] = []
        self.parent, self.height = genesis.hash, 0

    def header(self, root: bytes, following: ValidatorSet | None = None) -> Header:
        """The next one, with the state ``root`` of the block before it."""
        self.height += 1
        time_ms = self.genesis.time_ms + 1_000 * self.height
        following = following or self.validators
        return Header(self.height, self.validators.epoch, time_ms, self.parent, root, bytes(32), following.hash)

    def signed(self, header: Header, seats: Sequence[int] | None = None, view: int = 0) -> Signed:
        """With the signatures of these seats; without seats given, of a quorum."""
        self.parent = header.hash
        domain = commit_domain(self.genesis.hash, header.epoch, view, header.height)
        chosen = range(self.validators.q) if seats is None else seats
        names = [str(self.validators.entries[seat].org).rpartition(":")[2] for seat in chosen]
        signatures = [(seat, sign(key_of(name), domain, header.hash)) for seat, name in zip(chosen, names, strict=True)]
        return Signed(header, Certificate(view, tuple(signatures)))

    def end_epoch(self, following: ValidatorSet, root: bytes = bytes(32)) -> None:
        """The next header ends the epoch: this set decides from now on."""
        signed = self.signed(self.header(root, following))
        self.steps.append(EpochStep(signed.header, signed.certificate, following))
        self.validators = following

    def hand_over(self, names: Sequence[str], root: bytes = bytes(32)) -> None:
        """The same, of these organisations."""
        following = ValidatorSet(self.validators.epoch + 1, tuple(entry(name) for name in sorted(names)))
        self.end_epoch(following, root)

    def bundle(self, signed: Signed, key: bytes, value: bytes | None, proof: Proof) -> Bundle:
        """All of it."""
        return Bundle(self.genesis.hash, tuple(self.steps), signed, key, value, proof)
