"""An organisation of one node, for tests: its machine over a Store."""

from random import Random

from meshos.consensus.org.machine import MACHINE, OrgMachine
from meshos.consensus.org.replicated import GROUP, OrgState
from meshos.consensus.raft.applying import founding
from meshos.consensus.raft.config import LAN
from meshos.consensus.raft.replica import Replica
from meshos.ids import Peer
from meshos.storage.store import LiveView, Store


def found(store: Store, me: Peer) -> None:
    """Make ``me`` the first node of its organisation, where it has no state yet."""
    if next(store.scan(b""), None) is None:
        store.write(founding([me.node]))


def org_machine(view: LiveView, me: Peer, *, now: float, wall_ms: int) -> OrgMachine:
    """The machine of ``me`` over ``view``."""
    return OrgMachine(Replica(MACHINE, GROUP, me.node, OrgState(), view, org=me.org, config=LAN, rng=Random(1), now=now, wall_ms=wall_ms))
