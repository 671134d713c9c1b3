"""What a node knows of its ledger and lets strangers see: the state that it serves from, read when a question comes."""

from collections.abc import Callable
from dataclasses import dataclass

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


def head_of(store: View) -> Signed | None:
    """The newest header with its certificate; None before the first block, and while a state is being laid down."""
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
