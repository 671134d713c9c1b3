"""Names of things: who a node, an organisation, an agent, a task is.

All ids are strings that a human can read in a log and paste into a command. They are ``NewType``s, so that
mypy refuses a task id where a node id is wanted, at no cost when running.
"""

import hashlib
import re
from functools import lru_cache
from typing import NewType

from meshos.values import frozen

NodeId = NewType("NodeId", str)
"""A node: the libp2p peer id of its Ed25519 key (base58btc, ``12D3KooW…``); in simulations a short name."""

OrgDid = NewType("OrgDid", str)
"""An organisation: ``did:mesh:<kind>:<name>``."""

AgentId = NewType("AgentId", str)
"""An agent: ``a-`` and 16 hex digits of a hash of (organisation, name); the same name deployed again is the same agent."""

TaskId = NewType("TaskId", str)
"""A task: ``t-`` and 32 hex digits."""


@frozen
class Peer:
    """Who is at the other end, as its certificate proved: a node, and the organisation that answers for it."""

    node: NodeId
    org: OrgDid


ORG_KINDS = ("enterprise", "university", "hospital", "government", "community", "system")
_DID = re.compile(r"did:mesh:([a-z]+):([a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)")


def org_did(kind: str, name: str) -> OrgDid:
    """The DID of an organisation; raises ValueError with the rule that was broken."""
    did = f"did:mesh:{kind}:{name}"
    parse_org_did(did)
    return OrgDid(did)


def parse_org_did(did: str) -> tuple[str, str]:
    """``(kind, name)`` of an organisation's DID; raises ValueError with the rule that was broken."""
    match = _DID.fullmatch(did)
    if match is None:
        raise ValueError(f"{did[:80]!r} is not did:mesh:<kind>:<name> with a name of 1 to 63 lower-case letters, digits or inner dashes")
    kind, name = match.groups()
    if kind not in ORG_KINDS:
        raise ValueError(f"{kind!r} is not a kind of organisation; one of {', '.join(ORG_KINDS)}")
    return kind, name


@lru_cache(maxsize=16_384)
def agent_id(org: OrgDid, name: str) -> AgentId:
    """The id of the agent that ``org`` calls ``name``: (org, name) is an agent's identity."""
    digest = hashlib.sha256(b"meshos/agent-id/1\0" + org.encode() + b"\0" + name.encode()).hexdigest()
    return AgentId(f"a-{digest[:16]}")
