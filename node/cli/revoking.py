"""What ``mesh org revoke`` does: a new revocation list, signed by the organisation's root key where that key lies."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshos.crypto import certificates
from meshos.crypto.certificates import RevocationList
from meshos.errors import BadInput
from meshos.ids import NodeId, OrgDid
from meshos.node import folder
from meshos.node.config import NodeConfig
from meshos.node.meant import only
from meshos.node.trust import lists_in

MIN_PREFIX = len("12D3KooW") + 4
"""Of a node id that is not written in full: its first eight characters are those of every node."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The list as it is now; ``changed`` is False where the node was on it already."""

    org: OrgDid
    node: NodeId
    serials: tuple[int, ...]
    number: int
    listed: int
    file: Path
    changed: bool
    own: bool
    """Whether it is the node of this very folder."""


def revoke(config: NodeConfig, name: str, certificate: Path | None) -> Revoked:
    """Put all known certificates of the node ``name`` (its id, or how that begins) on the organisation's list.

    Raises BadInput ``no-such-certificate``, ``ambiguous-id``, ``root-key-not-here``, and what reading and writing raises.
    """
    root = folder.open_root(config)
    known = folder.issued(config)
    if certificate is not None:
        known.append(certificates.from_pem(folder.read_file(certificate)))
    node, serials = certificates_of(config.org, name, [certificates.describe(der) for der in known])
    held = _newest(lists_in(config.revocations, {config.org: root.public}), config.org)
    file = config.revocations / folder.list_name(config.org)
    own = node == folder.open_identity(config).node_id
    if held is not None and held.serials.issuperset(serials):
        return Revoked(config.org, node, serials, held.number, len(held.serials), file, changed=False, own=own)
    listed = frozenset(serials) | (held.serials if held is not None else frozenset())
    now = time.time()
    number = max(int(now), held.number + 1 if held is not None else 0)  # the time, so that a lost folder does not begin below older lists
    der = certificates.revoke(root, config.org, listed, number=number, now=now)
    folder.write_file(file, der)
    return Revoked(config.org, node, serials, number, len(listed), file, changed=True, own=own)


def certificates_of(org: OrgDid, name: str, known: Sequence[certificates.NodeCertificate]) -> tuple[NodeId, tuple[int, ...]]:
    """The node ``name`` (its id, or how that begins) among these, and the serial numbers of its certificates.

    Raises BadInput ``no-such-certificate`` or ``ambiguous-id``.
    """
    found = [said for said in known if said.peer.org == org and len(name) >= MIN_PREFIX and said.peer.node.startswith(name)]
    hint = "name a node by its id, and give the certificate that it shows with --certificate if it was issued elsewhere"
    none = BadInput("no-such-certificate", f"no certificate of {name[:80]!r} of {org} is known here", hint=hint)
    node = only(name, (said.peer.node for said in found), none)
    return NodeId(node), tuple(sorted({said.serial for said in found}))


def _newest(lists: Sequence[RevocationList], org: OrgDid) -> RevocationList | None:
    return max((listed for listed in lists if listed.org == org), key=lambda listed: listed.number, default=None)
