"""What must hold of the keys and certificates in a genesis, beyond their form; and whom a node trusts because of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from meshos.crypto.certificates import RevocationList, Trust, verify_root
from meshos.crypto.keys import PublicKey, public_key_named, public_key_of_multikey
from meshos.errors import MeshError
from meshos.genesis import Genesis, Org, Problem, check
from meshos.genesis_reading import read
from meshos.ids import NodeId, OrgDid


@dataclass(frozen=True, slots=True)
class Root:
    """An organisation's root: its key, and the certificate (DER) of it that TLS wants."""

    key: PublicKey
    certificate: bytes


def check_all(data: bytes) -> list[Problem]:
    """Everything that is wrong with a genesis file: its shape, its sense, its keys."""
    genesis, _ = read(data)
    return check(data) if genesis is None else [*check(data), *check_keys(genesis)]


def check_keys(genesis: Genesis) -> list[Problem]:
    """Keys that are no keys, and root certificates that are not those of their root keys."""
    found: list[Problem] = []
    for index, org in enumerate(genesis.orgs):
        found += _org(org, f"$.orgs[{index}]")
    for index, seat in enumerate(genesis.governance.seats):
        found += _key(seat.key, f"$.governance.seats[{index}].key")
    return found


def founding_roots(genesis: Genesis) -> dict[OrgDid, Root]:
    """The roots of the founding organisations; raises Refused ``bad-public-key``."""
    return {org.did: Root(public_key_of_multikey(org.root_key), org.root_certificate) for org in genesis.orgs}


def trust_of(genesis: Genesis, revocations: Iterable[RevocationList] = ()) -> Trust:
    """What is believed by the genesis alone; raises Refused ``bad-public-key``."""
    return trust_in(genesis.mesh_id, founding_roots(genesis), revocations)


def trust_in(
    mesh_id: str,
    roots: Mapping[OrgDid, Root],
    revocations: Iterable[RevocationList] = (),
    leaving: Mapping[OrgDid, NodeId] = MappingProxyType({}),
) -> Trust:
    """These roots as the trust bundle of links. Of two revocation lists of one organisation the one with the higher number counts."""
    newest: dict[str, RevocationList] = {}
    for revocation in revocations:
        if revocation.org not in newest or newest[revocation.org].number < revocation.number:
            newest[revocation.org] = revocation
    keys = {org: root.key for org, root in roots.items()}
    return Trust(mesh_id, MappingProxyType(keys), MappingProxyType({item.org: item for item in newest.values()}), leaving)


def _org(org: Org, path: str) -> Iterator[Problem]:
    root = list(_key(org.root_key, f"{path}.rootKey"))
    yield from root
    if not root:
        try:
            verify_root(org.root_certificate, org.did, public_key_of_multikey(org.root_key))
        except MeshError as error:
            yield Problem(f"{path}.rootCertificate", error.detail)
    if org.validator is not None:
        yield from _key(org.validator.node, f"{path}.validator.node")
        yield from _key(org.validator.key, f"{path}.validator.key")
    for number, human in enumerate(org.human_keys):
        yield from _key(human.key, f"{path}.humanKeys[{number}].key")


def _key(text: str, path: str) -> Iterator[Problem]:
    try:
        public_key_named(text)
    except MeshError as error:
        yield Problem(path, error.detail)
