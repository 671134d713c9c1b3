"""The ledger as what PBFT replicates (``pbft/application.py``): requests are transactions, the state lies in the authenticated tree.

``claims`` says what must be verified before a request counts; ``admit`` which requests are worth keeping, ``Batch`` which may follow each
other in a block, both by the rules by which ``execute`` includes (``state.py``); ``execute`` runs a block and gives the tree its changes.
"""

from collections.abc import Sequence
from dataclasses import replace

from meshos.consensus.ledger import evidence, tree
from meshos.consensus.ledger.agenda import pending_deadline
from meshos.consensus.ledger.evidence import Accusation
from meshos.consensus.ledger.founding import initial
from meshos.consensus.ledger.keys import KEYS
from meshos.consensus.ledger.kinds import read
from meshos.consensus.ledger.state import nonce_ahead, refusal_to_include, run
from meshos.consensus.ledger.tree import State
from meshos.consensus.pbft.application import Executed
from meshos.consensus.pbft.block import Block
from meshos.crypto.signing import Claim
from meshos.effects import Write
from meshos.errors import MeshError, Refused
from meshos.genesis_content import Genesis
from meshos.storage.store import View


def found(view: View, genesis: Genesis) -> tuple[Write, ...]:
    """The writes that make the state of ``genesis`` in an empty ``view``; raises as ``founding.initial``."""
    return tree.update(view, initial(genesis))[1]


class Batch:
    """Which requests make a block: each must be the next of its key, counting those before it in the block.

    A proposal of which every request passes is executed without one that is skipped.
    """

    __slots__ = ("_nonces", "_now_ms", "_state")

    def __init__(self, view: View, now_ms: int) -> None:
        self._state = State(view)
        self._now_ms = now_ms
        self._nonces: dict[str, int] = {}

    def admit(self, request: bytes) -> MeshError | None:
        """Why ``request`` cannot come next in the block, or None: then it does. ``nonce-ahead`` alone may change while it waits."""
        try:
            order = read(request)
        except Refused as refusal:
            return refusal
        if isinstance(order, Accusation):
            return evidence.refusal(KEYS.read(self._state, order.key))
        tx = order.transaction
        key = KEYS.read(self._state, tx.key)
        if key is not None and tx.key in self._nonces:
            key = replace(key, nonce=self._nonces[tx.key])
        refusal_ = refusal_to_include(order, key, self._now_ms)
        if refusal_ is None and key is not None:
            if tx.nonce != key.nonce:
                return nonce_ahead(tx, key)
            self._nonces[tx.key] = tx.nonce + 1
        return refusal_


class Ledger:
    """The application of one mesh. It holds nothing but the mesh's name; all it knows is in the View."""

    __slots__ = ("_genesis_hash",)

    def __init__(self, genesis_hash: bytes) -> None:
        self._genesis_hash = genesis_hash

    def root(self, view: View) -> bytes:
        """See ``Application.root``."""
        return tree.root(view)

    def claims(self, request: bytes) -> Sequence[Claim]:
        """See ``Application.claims``; raises Refused as ``kinds.read``."""
        return read(request).claims(self._genesis_hash)

    def admit(self, view: View, request: bytes, now_ms: int) -> MeshError | None:
        """See ``Application.admit``: as ``kinds.read`` and ``state.refusal_to_include``, or for an accusation ``evidence.refusal``."""
        try:
            order = read(request)
        except Refused as refusal:
            return refusal
        if isinstance(order, Accusation):
            return evidence.refusal(KEYS.read(State(view), order.key))
        return refusal_to_include(order, KEYS.read(State(view), order.transaction.key), now_ms)

    def execute(self, view: View, block: Block) -> Executed:
        """See ``Application.execute``; raises Failed ``upgrade-needed`` or ``state-corrupt``, after either of which this replica stops."""
        header = block.header
        ran = run(State(view), header.height, header.time_ms, block.requests)
        root, writes = tree.update(view, ran.changes)
        return Executed(root, writes, ran.results, ran.validators)

    def wants_block(self, view: View, now_ms: int) -> bool:
        """See ``Application.wants_block``: a deadline has come."""
        deadline = pending_deadline(State(view))
        return deadline is not None and deadline <= now_ms

    def accusation(self, evidence_bytes: bytes, key: str) -> bytes:
        """The request that accuses the validator with this ``key`` (a Multikey) by ``encode_evidence``'s bytes."""
        return evidence.accusation(evidence_bytes, key)
