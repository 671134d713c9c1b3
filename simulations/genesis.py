"""The genesis of a simulated mesh: its organisations, each with one validator, whose keys are names (``crypto/simulated.py``)."""

from collections.abc import Mapping
from dataclasses import replace

from meshos.genesis import MESH, Genesis, Org, Validator
from meshos.ids import NodeId, OrgDid
from meshos.node.folder import template

ALLOCATION = 1_000_000 * MESH
"""What each organisation begins with."""

BEGAN_MS = 1_699_999_000_000
"""Ledger time at height 0: a little before the wall clocks' begin (``world.WALL_BEGIN_MS``)."""


def simulated_genesis(seed: int, validators: Mapping[OrgDid, NodeId]) -> Genesis:
    """All that nodes of one world agree on."""
    orgs = tuple(Org(did, root_key(did), b"", Validator(node, vote_key(node)), (), ALLOCATION) for did, node in validators.items())
    return replace(
        template(),
        mesh="simulated",
        testnet=True,
        time_ms=BEGAN_MS,
        placement_seed=seed.to_bytes(32, "big"),
        supply=2 * ALLOCATION * len(orgs),
        meta_coordinators=tuple(validators),
        orgs=orgs,
    )


def root_key(org: OrgDid) -> str:
    """The name of an organisation's root key."""
    return f"{org}#root"


def vote_key(node: NodeId) -> str:
    """The name of a node's validator key."""
    return f"{node}#vote"
