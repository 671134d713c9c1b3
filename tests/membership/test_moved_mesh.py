"""A mesh that was moved to another address as a whole: what its operator has written counts more than what a node remembers."""

import random

from meshos import cbor
from meshos.effects import Put
from meshos.ids import NodeId
from meshos.presets import LAN
from meshos.protocols.membership.commands import Certified
from meshos.protocols.membership.machine import Membership, Seed
from meshos.protocols.membership.syncing import PEERS_KEY
from meshos.storage.memory import MemoryStore
from tests.membership.lone import ME
from tests.membership.mesh import DOMAIN, facts, org

OTHER, THIRD = NodeId("other"), NodeId("third")


def test_a_seed_is_where_the_configuration_says_whatever_was_stored_of_it() -> None:
    store = MemoryStore(random.Random(1))
    store.write([Put(PEERS_KEY, cbor.encode([[OTHER, "127.0.0.1:8302"], [THIRD, "127.0.0.1:8303"]]))])
    seeds, mine = [Seed(OTHER, "10.77.0.1:8302")], Certified(ME, org(0), b"")
    machine = Membership(mine, facts(ME, org(0)), domain=DOMAIN, timing=LAN, seeds=seeds, rng=random.Random(1), view=store)
    assert machine.link_address(OTHER) == "10.77.0.1:8302"
    assert machine.link_address(THIRD) == "127.0.0.1:8303", "of whom it says nothing, what was stored is as good as any"
