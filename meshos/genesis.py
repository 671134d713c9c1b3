"""Genesis: what all nodes of a mesh agree on before they have agreed on anything.

A genesis is a JSON file (``genesis.schema.json`` says its shape, ``genesis_check.py`` what must hold beyond it). Its hash
names the mesh: it is in the domain of every signature, in every certificate's name and in every datagram, so nothing
that was said in one mesh counts in another. Blanks and the order of keys do not change it; organisations are in the order of
their DIDs, which ``add`` keeps.

Keys are text here (Multikeys and node ids), checked for their form only; ``crypto/genesis_keys.py`` checks the rest.
Nothing here reads a file, a clock or randomness: bytes, times and seeds are arguments.
"""

from collections.abc import Iterable
from dataclasses import replace

from meshos.errors import BadInput
from meshos.genesis_check import check, check_genesis
from meshos.genesis_content import (
    MAX_BYTES,
    MESH,
    TIMINGS,
    Chamber,
    Directory,
    Embedding,
    Genesis,
    Governance,
    HumanKey,
    Org,
    Seat,
    TrustWeights,
    Validator,
    org_document,
    to_document,
    to_json,
)
from meshos.genesis_reading import Problem, parse, parse_org, parse_problems

__all__ = [
    "MAX_BYTES",
    "MESH",
    "TIMINGS",
    "Chamber",
    "Directory",
    "Embedding",
    "Genesis",
    "Governance",
    "HumanKey",
    "Org",
    "Problem",
    "Seat",
    "TrustWeights",
    "Validator",
    "add",
    "check",
    "check_genesis",
    "new",
    "org_document",
    "parse",
    "parse_org",
    "parse_problems",
    "to_document",
    "to_json",
]


def new(
    template: Genesis, *, mesh: str, time_ms: int, placement_seed: bytes, testnet: bool, timing: str = "lan", orgs: Iterable[Org] = ()
) -> Genesis:
    """A genesis with the parameters of ``template`` for a new mesh.

    ``placement_seed`` is 32 random bytes, drawn by the caller once the organisations are known, so that nobody
    chooses a DID for its place. Raises BadInput as ``add`` does, ``genesis-malformed`` for a bad name, time or seed.
    """
    started = replace(
        template, mesh=mesh, testnet=testnet, time_ms=time_ms - time_ms % 1_000, timing=timing, placement_seed=placement_seed, orgs=()
    )
    for org in orgs:
        started = add(started, org)
    return _of_good_shape(started)


def add(genesis: Genesis, org: Org, *, meta_coordinator: bool = True) -> Genesis:
    """The same genesis with one more organisation: another hash, so another mesh.

    Raises BadInput ``org-already-in-genesis``, or ``genesis-malformed`` if the organisation is not well described.
    """
    if genesis.org(org.did) is not None:
        raise BadInput("org-already-in-genesis", f"{org.did} is in this genesis already", hint="remove its entry first to replace it")
    coordinators = (*genesis.meta_coordinators, org.did) if meta_coordinator else genesis.meta_coordinators
    return _of_good_shape(replace(genesis, orgs=(*genesis.orgs, org), meta_coordinators=coordinators))


def _of_good_shape(genesis: Genesis) -> Genesis:
    return parse(to_json(genesis))
