"""The ledger as what PBFT replicates (``pbft/application.py``): requests are transactions, the state lies in the authenticated tree.

``claims`` says what must be verified before a request counts; ``admit`` which requests are worth keeping, ``Batch`` which may follow each
other in a block, both by the rules by which ``execute`` includes (``state.py``); ``execute`` runs a block and gives the tree its changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from meshos.consensus.ledger import chunks, tree
from meshos.consensus.ledger.agenda import pending_deadline
from meshos.consensus.ledger.evidence import Accusation, accuse, refusal_to_convict
from meshos.consensus.ledger.founding import NOTHING, initial, validators
from meshos.consensus.ledger.keys import KEYS
from meshos.consensus.ledger.kinds import Order, read
from meshos.consensus.ledger.state import nonce_ahead, refusal_to_include, run
from meshos.consensus.ledger.tree import State
from meshos.consensus.pbft.application import Executed, Restored
from meshos.consensus.pbft.block import Block
from meshos.consensus.pbft.evidence import decode_evidence
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.crypto.signing import Claim
from meshos.errors import MeshError, Refused
from meshos.genesis_content import Genesis
from meshos.storage.store import View


class Batch:
    """Which requests make a block: each must be the next of its key, counting those before it in the block.

    A proposal of which every request passes is executed without one that is skipped, unless a request before it retires its key.
    """

    __slots__ = ("_accused", "_nonces", "_now_ms", "_state")

    def __init__(self, view: View, now_ms: int) -> None:
        self._state = State(view)
        self._now_ms = now_ms
        self._nonces: dict[str, int] = {}
        self._accused: set[str] = set()

    def admit(self, request: bytes) -> MeshError | None:
        """Why ``request`` cannot come next in the block, or None: then it does. ``nonce-ahead`` alone may change while it waits."""
        try:
            order = read(request)
        except Refused as refusal:
            return refusal
        return self._accuse(order) if isinstance(order, Accusation) else self._order(order)

    def _order(self, order: Order) -> MeshError | None:
        tx = order.transaction
        key = KEYS.read(self._state, tx.key)
        if key is not None and tx.key in self._nonces:
            key = replace(key, nonce=self._nonces[tx.key])
        why_not = refusal_to_include(order, key, self._now_ms)
        if why_not is None and key is not None:
            if tx.nonce != key.nonce:
                return nonce_ahead(tx, key)
            self._nonces[tx.key] = tx.nonce + 1
        return why_not

    def _accuse(self, accusation: Accusation) -> MeshError | None:
        key = KEYS.read(self._state, accusation.key)
        if key is not None and accusation.key in self._accused:
            key = replace(key, burnt=True)
        self._accused.add(accusation.key)
        return refusal_to_convict(key)


class Ledger:
    """The application of one mesh. It holds nothing but genesis; all else that it knows is in the View.

    ``validators_of`` gives the validator set of an epoch, which the agreement knows, to name the key of a validator that is accused.
    """

    __slots__ = ("_founded", "_genesis_hash", "validators_of")

    validators_of: Callable[[int], ValidatorSet | None]

    def __init__(self, genesis: Genesis) -> None:
        """``genesis`` passed its check; raises as ``founding.initial``."""
        self.validators_of = {0: validators(genesis)}.get
        self._genesis_hash = genesis.hash
        root, writes = tree.update(NOTHING, initial(genesis))
        self._founded = Executed(root, writes, ())

    def genesis(self) -> Executed:
        """See ``Application.genesis``."""
        return self._founded

    def batch(self, view: View, now_ms: int) -> Batch:
        """What a proposal at ``now_ms`` on top of the state in ``view`` may hold: asked for each request in its order."""
        return Batch(view, now_ms)

    def claims(self, request: bytes) -> Sequence[Claim]:
        """See ``Application.claims``; raises Refused as ``kinds.read``."""
        return read(request).claims(self._genesis_hash)

    def admit(self, view: View, request: bytes, now_ms: int) -> MeshError | None:
        """See ``Application.admit``: as ``kinds.read``, ``state.refusal_to_include`` and ``evidence.refusal_to_convict``."""
        try:
            order = read(request)
        except Refused as refusal:
            return refusal
        if isinstance(order, Accusation):
            return refusal_to_convict(KEYS.read(State(view), order.key))
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

    def accusation(self, evidence: bytes) -> bytes | None:
        """See ``Application.accusation``; raises Refused as ``decode_evidence``."""
        vote = decode_evidence(evidence).one
        accused = self.validators_of(vote.epoch)
        if accused is None or vote.index >= accused.n:
            return None
        return accuse(evidence, accused.entries[vote.index].key)

    def chunk(self, view: View, at: bytes) -> bytes:
        """See ``Application.chunk``; raises as ``chunks.serve``."""
        return chunks.serve(view, at)

    def restore(self, view: View, chunk: bytes, root: bytes) -> Restored:
        """See ``Application.restore``; raises as ``chunks.accept``."""
        accepted = chunks.accept(view, root, chunk)
        return Restored(accepted.writes, accepted.next)
