"""The ledger's replica of a node, put together from the genesis."""

from meshos.consensus.ledger.application import Ledger as Application
from meshos.consensus.ledger.parameters import PARAMETERS
from meshos.consensus.ledger.rents import room
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.replica import Replica
from meshos.consensus.pbft.validators import ValidatorEntry, ValidatorSet
from meshos.crypto.signing import Verifier
from meshos.genesis import Genesis
from meshos.ids import OrgDid, Peer
from meshos.protocols.directory.holdings import a_day, uncapped
from meshos.protocols.ledger.port import LEDGER, ReplicaLedger
from meshos.storage.store import View


def replica_of(
    genesis: Genesis,
    me: Peer,
    key: str,
    view: View,
    verifier: Verifier,
    *,
    interval: int,
    keep_blocks: int | None,
    now: float,
    wall_ms: int,
    listeners: tuple[str, ...],
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
        keep_blocks=keep_blocks,
    )
    application = Application(genesis)
    replica = Replica(config, application, view, verifier, now=now, wall_ms=wall_ms, machine=LEDGER, listeners=listeners)
    application.validators_of = replica.core.validators_of
    return replica


def directory_caps(window: ReplicaLedger, org: OrgDid) -> tuple[int, int, int | None]:
    """What the ledger says of how many records are held, and for how many ``org`` has room now."""
    now = None if window.restoring else PARAMETERS.read(window, b"")
    if now is None:
        return uncapped(org)
    return now["directory-max-records"], now["directory-max-records-per-org"], room(window, org, window.time_ms)


def record_lifetime(window: ReplicaLedger) -> float:
    """What they say of how many seconds a record lives."""
    now = None if window.restoring else PARAMETERS.read(window, b"")
    return a_day() if now is None else now["directory-record-ttl-ms"] / 1000
