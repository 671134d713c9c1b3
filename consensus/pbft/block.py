"""Blocks: a header that q validators sign, the requests it orders, and the certificate that proves the decision.

    header        [version, height, epoch, time_ms, parent, state_root, requests_root, next_validators]
    block         [header, [request, …]]
    certificate   [view, [[validator index, signature], …]]
    certified     [block, certificate]

All canonical CBOR. A header's hash names the block: ``requests_root`` (RFC 6962, section 2.1) binds the requests, ``parent`` the
whole history. The view is not in it, so a block that a view change carries over stays the same block. ``state_root`` is
the state after the block *before*, which is known when the header is made.

A certificate holds q signatures over the header's hash in the domain (genesis, "pbft", epoch, view, height, "commit"). With the
validator set that the header before names, it needs nothing else to be checked, by anybody, at any time.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

from meshos import cbor
from meshos.consensus.pbft.limits import (
    HASH_BYTES,
    MAX_BLOCK_BYTES,
    MAX_BLOCK_REQUESTS,
    MAX_CERTIFICATE_BYTES,
    MAX_HEADER_BYTES,
    MAX_NUMBER,
    MAX_REQUEST_BYTES,
    MAX_VALIDATORS,
    SIGNATURE_BYTES,
)
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.signing import Claim, Domain
from meshos.errors import Refused

PROTOCOL = "pbft"
VERSION = 1

_HEADER_TAG = b"meshos/header/1\0"
_MAX_BLOCK_CBOR = MAX_HEADER_BYTES + MAX_BLOCK_BYTES + 5 * MAX_BLOCK_REQUESTS + 16
_MAX_CERTIFIED_CBOR = _MAX_BLOCK_CBOR + MAX_CERTIFICATE_BYTES + 16


@dataclass(frozen=True)
class Header:
    """What is agreed on for one height."""

    height: int
    epoch: int
    """Of the validator set that decides this block."""
    time_ms: int
    """Ledger time, above the parent's."""
    parent: bytes
    """Hash of the header before; at height 1 the genesis hash."""
    state_root: bytes
    """After the block before."""
    requests_root: bytes
    next_validators: bytes
    """Hash of the validator set that decides the next block."""

    @cached_property
    def encoded(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode(header_fields(self))

    @cached_property
    def hash(self) -> bytes:
        """The block's name."""
        return hashlib.sha256(_HEADER_TAG + self.encoded).digest()


@dataclass(frozen=True)
class Block:
    """A header and the requests it orders, as the bytes that their senders signed."""

    header: Header
    requests: tuple[bytes, ...]

    @property
    def hash(self) -> bytes:
        """Its header's."""
        return self.header.hash

    @cached_property
    def request_hashes(self) -> tuple[bytes, ...]:
        """The names of its requests."""
        return tuple(request_hash(request) for request in self.requests)

    @property
    def fields(self) -> list[object]:
        """As a CBOR value."""
        return [header_fields(self.header), self.requests]

    @cached_property
    def encoded(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode(self.fields)


@dataclass(frozen=True)
class Certificate:
    """That q validators of the header's epoch decided for it in ``view``: (index, signature), in the order of the indices."""

    view: int
    signatures: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class Certified:
    """A decided block with its proof: can be checked by whoever knows the validator set."""

    block: Block
    certificate: Certificate

    @property
    def fields(self) -> list[object]:
        """As a CBOR value."""
        return [self.block.fields, certificate_fields(self.certificate)]

    @cached_property
    def encoded(self) -> bytes:
        """Canonical CBOR."""
        return cbor.encode(self.fields)


def request_hash(request: bytes) -> bytes:
    """The name of a request: the hash of its leaf in ``requests_root``."""
    return hashlib.sha256(b"\0" + request).digest()


def requests_root(hashes: Sequence[bytes]) -> bytes:
    """Merkle tree hash over requests, given as ``request_hash`` of each (RFC 6962, section 2.1)."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    level = list(hashes)
    while len(level) > 1:  # an odd one out moves up as it is: the same as splitting at the largest power of two below
        pairs = [hashlib.sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(level) & ~1 :]
    return level[0]


# -- certificates ------------------------------------------------------------------------------------------------------


def commit_domain(genesis_hash: bytes, epoch: int, view: int, height: int) -> Domain:
    """What a commit vote's signature is for."""
    return Domain(genesis_hash, PROTOCOL, epoch, view, height, "commit")


def certificate_claims(genesis_hash: bytes, header: Header, certificate: Certificate, validators: ValidatorSet) -> list[Claim]:
    """What must be verified before ``certificate`` proves ``header``.

    Raises Refused ``wrong-epoch``, ``no-quorum``, ``unknown-validator`` or ``validator-suspended``: what needs no signature to see.
    """
    if header.epoch != validators.epoch:
        raise Refused("wrong-epoch", f"the header is of epoch {header.epoch}, these validators of {validators.epoch}")
    return vote_claims(commit_domain(genesis_hash, header.epoch, certificate.view, header.height), header.hash, certificate, validators)


def vote_claims(domain: Domain, payload: bytes, certificate: Certificate, validators: ValidatorSet) -> list[Claim]:
    """The claims of q votes for ``payload`` in ``domain``; raises as ``certificate_claims`` does."""
    if len(certificate.signatures) < validators.q:
        raise Refused("no-quorum", f"{len(certificate.signatures)} signatures, {validators.q} are a quorum")
    claims = []
    for index, signature in certificate.signatures:
        claims.append(Claim(seat(validators, index).key, domain, payload, signature))
    return claims


def seat(validators: ValidatorSet, index: int) -> ValidatorEntry:
    """Who votes as ``index``; raises Refused ``unknown-validator`` or ``validator-suspended``."""
    if index >= validators.n:
        raise Refused("unknown-validator", f"there is no validator {index} among {validators.n}")
    entry = validators.entries[index]
    if entry.suspended:
        raise Refused("validator-suspended", f"{entry.org} is suspended in epoch {validators.epoch}: its vote does not count")
    return entry


# -- codec -------------------------------------------------------------------------------------------------------------


def header_fields(header: Header) -> list[object]:
    """A header as a CBOR value."""
    return [
        VERSION,
        header.height,
        header.epoch,
        header.time_ms,
        header.parent,
        header.state_root,
        header.requests_root,
        header.next_validators,
    ]


def certificate_fields(certificate: Certificate) -> list[object]:
    """A certificate as a CBOR value."""
    return [certificate.view, certificate.signatures]


def decode_header(data: bytes) -> Header:
    """The header again; raises Refused ``too-large``, ``bad-encoding``, ``header-malformed`` or ``unknown-version``."""
    return header_of(cbor.decode(data, max_bytes=MAX_HEADER_BYTES, max_depth=1))


def decode_block(data: bytes) -> Block:
    """The block again; raises as ``decode_header``, and ``block-malformed``."""
    return block_of(cbor.decode(data, max_bytes=_MAX_BLOCK_CBOR, max_depth=2))


def decode_certificate(data: bytes) -> Certificate:
    """The certificate again; raises Refused ``too-large``, ``bad-encoding`` or ``quorum-malformed``."""
    return certificate_of(cbor.decode(data, max_bytes=MAX_CERTIFICATE_BYTES, max_depth=3))


def decode_certified(data: bytes) -> Certified:
    """A block with its certificate; raises as both do. No signature has been checked."""
    return certified_of(cbor.decode(data, max_bytes=_MAX_CERTIFIED_CBOR, max_depth=4))


def header_of(value: object) -> Header:
    """The header that a decoded value is, as ``decode_header``."""
    match value:
        case [version, *_] if type(version) is not int:  # true and 1.0 are equal to 1, and are other bytes
            pass
        case [version, *_] if version != VERSION:
            raise Refused("unknown-version", f"a header of version {version}; this node knows {VERSION}")
        case [_, height, epoch, time_ms, bytes() as parent, bytes() as state, bytes() as requests, bytes() as validators]:
            hashes = (parent, state, requests, validators)
            if is_number(height) and is_number(epoch) and is_number(time_ms) and height and all(len(h) == HASH_BYTES for h in hashes):
                return Header(height, epoch, time_ms, parent, state, requests, validators)
    raise Refused("header-malformed", "this is no block header")


def block_of(value: object) -> Block:
    """The block that a decoded value is, its requests as its header says; as ``decode_block``."""
    match value:
        case [fields, [*values]]:
            requests = tuple(value for value in values if isinstance(value, bytes))
            if len(requests) == len(values):
                block = Block(header_of(fields), requests)
                check_requests(block)
                return block
    raise Refused("block-malformed", "this is no block")


def certified_of(value: object) -> Certified:
    """The certified block that a decoded value is, as ``decode_certified``."""
    match value:
        case [block, certificate]:
            return Certified(block_of(block), certificate_of(certificate))
    raise Refused("block-malformed", "this is no certified block")


def check_requests(block: Block) -> None:
    """Raise Refused ``block-malformed`` unless the requests are within bounds, each once, and those of ``requests_root``."""
    sizes = [len(request) for request in block.requests]
    if len(sizes) > MAX_BLOCK_REQUESTS or sum(sizes) > MAX_BLOCK_BYTES or max(sizes, default=0) > MAX_REQUEST_BYTES:
        raise Refused("block-malformed", f"a block of {len(sizes)} requests, {sum(sizes)} bytes, is too large")
    hashes = block.request_hashes
    if len(set(hashes)) < len(hashes):
        raise Refused("block-malformed", "a request stands twice in this block")
    if requests_root(hashes) != block.header.requests_root:
        raise Refused("block-malformed", "these are not the requests of this header")


def certificate_of(value: object) -> Certificate:
    """The certificate that a decoded value is, as ``decode_certificate``."""
    match value:
        case [view, [*rows]] if is_number(view) and len(rows) <= MAX_VALIDATORS:
            signatures = tuple(signature_of(row) for row in rows)
            if all(one[0] < other[0] for one, other in itertools.pairwise(signatures)):
                return Certificate(view, signatures)
    raise Refused("quorum-malformed", "this is no certificate of a quorum")


def signature_of(row: object) -> tuple[int, bytes]:
    """``[index, signature]`` of a decoded value."""
    match row:
        case [int() as index, bytes() as signature] if 0 <= index < MAX_VALIDATORS and len(signature) == SIGNATURE_BYTES:
            if type(index) is int:
                return index, signature
    raise Refused("quorum-malformed", "this is no signature of a validator")


def is_number(value: object) -> TypeGuard[int]:
    """Whether it may be a height, an epoch, a view or a time."""
    return type(value) is int and 0 <= value <= MAX_NUMBER
