"""What became of a transaction, and how long it is remembered.

Results follow from the blocks, so they are no part of the state that replicas agree on: each replica keeps those of the blocks that
it ran itself, the newest MAX_RESULTS of them.

    result/<id>          Result of a transaction that was committed or refused
    results/<height>     the ids of these, to forget them with their block
    results              the oldest height with results, and how many there are
"""

from collections.abc import Sequence

from meshos import cbor
from meshos.consensus.ledger.packing import pack, unpack
from meshos.values import frozen

COMMITTED, REFUSED, SKIPPED = "committed", "refused", "skipped"


@frozen
class Result:
    """What block ``height`` did with its request number ``index``. ``name`` is that of the refusal, empty if it was committed.

    ``id`` is empty if the request could not be read.
    """

    outcome: str
    name: str
    height: int
    index: int
    id: bytes


def encode_result(result: Result) -> bytes:
    """What the sender hears."""
    return pack(result.outcome, result.name, result.height, result.index, result.id)


def decode_result(value: bytes) -> Result:
    """The result again; raises Broken ``ledger-broken``."""
    return Result(*unpack(value))
