"""What became of a transaction.

The agreement keeps each result with its block, by the request's hash, as long as it keeps the block. So that a result can be proven to
whoever has only headers, the state keeps under ``outcomes/`` the Merkle root (``crypto/merkle.py``) over the results of each of the newest
KEPT_OUTCOMES blocks that had any: the request's place proves it in the block (``Header.requests_root``), the same place proves its result.
"""

from collections.abc import Sequence

from meshos.consensus.ledger.draft import Draft, Table
from meshos.consensus.ledger.limits import KEPT_OUTCOMES
from meshos.consensus.ledger.packing import pack, unpack
from meshos.crypto import merkle
from meshos.values import frozen

COMMITTED, REFUSED, SKIPPED = "committed", "refused", "skipped"


@frozen
class Result:
    """What block ``height`` did with its request number ``index``. ``name`` is that of the refusal, empty if it was committed.

    ``id`` is the transaction's, empty if the request could not be read.
    """

    outcome: str
    name: str
    height: int
    index: int
    id: bytes

    @property
    def final(self) -> bool:
        """Whether it can never come to anything else."""
        return self.outcome != SKIPPED


@frozen
class Outcomes:
    """Of block ``height``: the Merkle root over its ``count`` results, as ``encode_result`` gives them."""

    height: int
    count: int
    root: bytes


OUTCOMES = Table(b"outcomes/", lambda o: pack(o.height, o.count, o.root), lambda value: Outcomes(*unpack(value)))


def encode_result(result: Result) -> bytes:
    """What the sender hears."""
    return pack(result.outcome, result.name, result.height, result.index, result.id)


def decode_result(value: bytes) -> Result:
    """The result again; raises Broken ``ledger-broken``."""
    return Result(*unpack(value))


def place(height: int) -> bytes:
    """Where the outcomes of a block lie: a ring."""
    return (height % KEPT_OUTCOMES).to_bytes(4, "big")


def keep_outcomes(draft: Draft, results: Sequence[bytes]) -> None:
    """The last thing in a block that has requests."""
    if results:
        draft.write(OUTCOMES, place(draft.height), Outcomes(draft.height, len(results), merkle.root(results)))
