"""The genesis of a simulated mesh: its organisations, each with one validator, whose keys are names (``crypto/simulated.py``)."""

from collections.abc import Mapping
from dataclasses import replace

from meshos.genesis import MESH, Genesis, HumanKey, Org, Seat, Validator
from meshos.ids import NodeId, OrgDid
from meshos.node.folder import template

ALLOCATION = 1_000_000 * MESH
"""What each organisation begins with."""

BEGAN_MS = 1_699_999_000_000
"""Ledger time at height 0: a little before the wall clocks' begin (``world.WALL_BEGIN_MS``)."""


def simulated_genesis(seed: int, validators: Mapping[OrgDid, NodeId], *, people: bool = False) -> Genesis:
    """All that nodes of one world agree on. ``people``: each organisation has a person with seats in the first chamber; the first one's has
    so many that it overrules together with any other, and not alone (it takes 80 % of the seats).
    """
    shipped = template()
    orgs = tuple(
        Org(
            did,
            root_key(did),
            b"",
            Validator(node, vote_key(node)),
            (HumanKey("Ada", person_key(did)),) if people else (),
            ALLOCATION,
        )
        for did, node in validators.items()
    )
    chamber = shipped.governance.chambers[0].name
    seated = [did for number, did in enumerate(validators) for _ in range(1 if number else max(1, 4 * len(validators) - 5))]
    seats = tuple(Seat(chamber, "Ada", did, person_key(did)) for did in seated) if people else ()
    return replace(
        shipped,
        mesh="simulated",
        testnet=True,
        time_ms=BEGAN_MS,
        placement_seed=seed.to_bytes(32, "big"),
        supply=2 * ALLOCATION * len(orgs),
        meta_coordinators=tuple(validators),
        governance=replace(shipped.governance, seats=seats),
        orgs=orgs,
    )


def person_key(org: OrgDid) -> str:
    """The name of the key of an organisation's person."""
    return f"{org}#person"


def root_key(org: OrgDid) -> str:
    """The name of an organisation's root key."""
    return f"{org}#root"


def vote_key(node: NodeId) -> str:
    """The name of a node's validator key."""
    return f"{node}#vote"
