"""What a node announces to whoever listens (gossipsub): its newest header, and what its directory has become.

    /meshos/<8 bytes of the genesis hash>/heads/1        CBOR [header, certificate]
    /meshos/<8 bytes of the genesis hash>/directory/1    CBOR [digest of the directory, records in it]

A head proves itself to a light client. A directory's digest is the word of the node that signed the message: it says when a search is
worth repeating.
"""

from meshos import cbor
from meshos.consensus.ledger.light_client import Signed
from meshos.consensus.pbft.block import certificate_fields, header_fields
from meshos.consensus.pbft.limits import MAX_CERTIFICATE_BYTES, MAX_HEADER_BYTES
from meshos.protocols.square import wire
from meshos.protocols.square.describe import read_head

ANNOUNCEMENT_BYTES = MAX_HEADER_BYTES + MAX_CERTIFICATE_BYTES + 64
DIGEST_BYTES = 32


def heads_topic(genesis_hash: bytes) -> str:
    """Where new headers are announced."""
    return f"/meshos/{genesis_hash[:8].hex()}/heads/1"


def directory_topic(genesis_hash: bytes) -> str:
    """Where changes of the directory are announced."""
    return f"/meshos/{genesis_hash[:8].hex()}/directory/1"


def of_head(head: Signed) -> bytes:
    """The announcement of a header."""
    return cbor.encode([header_fields(head.header), certificate_fields(head.certificate)])


def of_directory(digest: bytes, records: int) -> bytes:
    """The announcement of a directory."""
    return cbor.encode([digest, records])


def read_head_announcement(data: bytes) -> Signed:
    """The header that is announced, unproven; raises Refused ``too-large``, ``bad-encoding``, ``square-bad-answer``, or as its parts do."""
    return read_head(cbor.decode(data, max_bytes=ANNOUNCEMENT_BYTES))


def read_directory_announcement(data: bytes) -> tuple[bytes, int]:
    """Digest and number of records; raises Refused ``too-large``, ``bad-encoding`` or ``square-bad-answer``."""
    match cbor.decode(data, max_bytes=ANNOUNCEMENT_BYTES):
        case [bytes() as digest, int() as records] if 0 < len(digest) <= DIGEST_BYTES and type(records) is int and records >= 0:
            return digest, records
    raise wire.bad_answer("this announces no directory")
