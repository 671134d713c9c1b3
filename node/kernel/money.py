"""The machines of a node that have to do with money: the ledger's replica, who sends it transactions, who pays and who earns by voucher."""

from collections.abc import Iterator

from meshos.consensus.ledger.application import Ledger as Application
from meshos.consensus.ledger.results import Result, decode_result
from meshos.consensus.ledger.tree import State
from meshos.consensus.pbft.block import request_hash
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.replica import Replica
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.signing import Verifier
from meshos.genesis import Genesis
from meshos.ids import Peer
from meshos.protocols.ledger.port import LEDGER
from meshos.protocols.ledger.sender import MACHINE as TRANSACTIONS
from meshos.protocols.payments.commands import EARNING, PAYING
from meshos.storage.store import View

TOLD = (TRANSACTIONS, PAYING, EARNING)
"""Who is told of each block."""


class LedgerWindow:
    """A ``LedgerView``: what this node's replica has executed, and its state in ``view``."""

    def __init__(self, replica: Replica, view: View) -> None:
        self._chain = replica.core.chain
        self._state = State(view)

    @property
    def height(self) -> int:
        """See ``LedgerView``."""
        return self._chain.height

    @property
    def time_ms(self) -> int:
        """See ``LedgerView``."""
        return self._chain.time_ms

    def result(self, request: bytes) -> Result | None:
        """See ``LedgerView``."""
        return self.outcome(request_hash(request))

    def outcome(self, name: bytes) -> Result | None:
        """The same by the request's hash."""
        place = self._chain.place(name)
        return None if place is None else decode_result(place[2])

    def get(self, key: bytes) -> bytes | None:
        """See ``View.get``."""
        return self._state.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See ``View.scan``."""
        return self._state.scan(prefix)


def replica_of(
    genesis: Genesis, me: Peer, key: str, view: View, verifier: Verifier, *, interval: int, now: float, wall_ms: int, listener: str
) -> Replica:
    """The machine ``LEDGER``: a validator where genesis or the ledger since names this node with ``key``, else a follower."""
    seats = ((org.did, org.validator) for org in genesis.orgs if org.validator is not None)
    config = Config(
        node=me.node,
        key=key,
        genesis_hash=genesis.hash,
        genesis_time_ms=genesis.time_ms,
        validators=ValidatorSet(0, tuple(ValidatorEntry(did, seat.node, seat.key) for did, seat in seats)),
        checkpoint_interval=interval,
    )
    application = Application(genesis)
    replica = Replica(config, application, view, verifier, now=now, wall_ms=wall_ms, machine=LEDGER, listeners=(listener,))
    application.validators_of = replica.core.validators_of
    return replica
