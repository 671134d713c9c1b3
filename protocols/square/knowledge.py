"""What a node knows of its ledger and lets strangers see: the state that it serves from, read when a question comes.

What costs more the larger the ledger is (the newest block is decoded for its header, all organisations are for their names) is made once
for each block, however often it is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.light_client import Signed
from meshos.consensus.pbft.block import decode_certified
from meshos.consensus.pbft.codec import step_of
from meshos.consensus.pbft.messages import EpochStep
from meshos.consensus.pbft.records import EPOCHS, HEAD, block_key, epoch_key, height_of, read
from meshos.genesis import Genesis
from meshos.ids import Peer
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.square.routes import Routes
from meshos.storage.store import View

Org = tuple[str, str, bool]
"""Its DID, its root key (Multikey), and whether it has a seat among the validators."""


@dataclass(slots=True)
class _Made:
    """What was made of the newest block, and of which one."""

    block: bytes | None = None
    head: Signed | None = None
    height: int = -1
    orgs: tuple[Org, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """``store`` shows the whole store of the ledger, ``ledger`` the newest state in it; at ``addresses`` strangers reach this node."""

    me: Peer
    version: str
    genesis: Genesis
    genesis_file: bytes
    store: View
    ledger: LedgerView
    addresses: Callable[[], tuple[str, ...]] = tuple
    routes: Callable[[], Routes] = Routes
    """The other nodes, and where strangers reach them."""
    _made: _Made = field(default_factory=_Made, init=False, repr=False, compare=False)

    def head(self) -> Signed | None:
        """The newest header with its certificate; None before the first block, and while a state is being laid down."""
        record, made = self.store.get(HEAD), self._made
        if record != made.block or made.head is None:
            made.block, made.head = record, head_of(self.store)
        return made.head

    def orgs(self) -> tuple[Org, ...]:
        """All members, as of the newest state, or of the genesis where there is none yet."""
        height, made = self.ledger.height, self._made
        if not height:
            return tuple((org.did, org.root_key, org.validator is not None) for org in self.genesis.orgs)
        if height != made.height:
            seats = {entry.org for entry in queries.seats(self.ledger).entries}
            made.orgs = tuple((did, org.root, did in seats) for did, org in queries.orgs(self.ledger) if not org.left_ms)
            made.height = height
        return made.orgs


def head_of(store: View) -> Signed | None:
    """See ``Known.head``, which decodes each block once."""
    head = store.get(HEAD)
    stored = None if head is None else store.get(block_key(height_of(head)))
    if stored is None:
        return None
    certified = decode_certified(stored)
    return Signed(certified.block.header, certified.certificate)


def steps_after(store: View, epoch: int, most: int, most_bytes: int) -> tuple[tuple[EpochStep, ...], bool]:
    """The changes of the validator set after ``epoch``, oldest first: at most so many, of so many bytes; and whether that is all."""
    found: list[EpochStep] = []
    size = 0
    while (record := store.get(epoch_key(epoch + 1 + len(found)))) is not None:
        size += len(record)
        if len(found) == most or (found and size > most_bytes):
            return tuple(found), False
        found.append(step_of(read(record)))
    return tuple(found), True


def knows_epoch(store: View, epoch: int) -> bool:
    """Whether this node holds all changes of the validator set after ``epoch``: one that was started from a snapshot may not."""
    first = next(iter(store.scan(EPOCHS)), None)
    return first is None or first[0] <= epoch_key(epoch + 1)
