"""``/meshos/join/1``: how a stranger becomes a member.

    request  {}                                         how strangers come in here, and where members are found
             {"application": text, "invitation": text}  to be admitted; the invitation only where one is needed
    answer   {"policy": "vote" | "invitation" | "open", "state": "stranger" | "asked" | "member", "motion": null or its id,
              "seeds": [[node id, gossip address, link address], …]}

An application is signed by the root key of the organisation that asks (``mesh org apply`` makes the same), for this mesh. Asking again
changes nothing: an open motion is not moved twice, and who is a member is told so. What the node says of itself and of others is a hint:
that an organisation was admitted is proven by the ledger (``proof.py``), and a seed proves its own key when it is dialled; one that is
no seed is passed over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

from meshos.cbor import Value
from meshos.crypto.limits import GUEST_BYTES
from meshos.genesis_content import NODE_ID
from meshos.protocols.square import wire
from meshos.protocols.square.answering import Asker, Protocol

NAME = "/meshos/join/1"
COST = 25
"""Reading an application: two signatures, a certificate, and a transaction tried on the ledger."""
SEEDS = 16
TEXT_CHARS = 4_096
"""Of an application: a certificate of 2 KiB, and what is signed."""
INVITATION_CHARS = 2 * GUEST_BYTES
REQUEST_BYTES = TEXT_CHARS + INVITATION_CHARS + 256
ADDRESS_CHARS = 128
TIMEOUT_S = 15.0

POLICIES = ("vote", "invitation", "open")
"""As the ledger's parameter ``admission`` counts them."""
STRANGER, ASKED, MEMBER = "stranger", "asked", "member"
STATES = (STRANGER, ASKED, MEMBER)


@dataclass(frozen=True, slots=True)
class SeedEntry:
    """A member's node, and where it hears gossip and takes links (``host:port``)."""

    node: str
    gossip: str
    link: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands to this mesh, as one node says."""

    policy: str
    state: str
    motion: bytes | None
    seeds: tuple[SeedEntry, ...]


class Door(Interface):
    """What a node does for who wants to come in."""

    def policy(self) -> str:
        """One of POLICIES."""
        ...

    def seeds(self) -> Sequence[SeedEntry]:
        """Members that can be asked first."""
        ...

    async def knock(self, application: str, invitation: str | None, address: str) -> tuple[str, bytes | None]:
        """See that who applies from ``address`` is admitted: its state, and the motion that is open for it. Raises Refused with why."""
        ...


def protocol(door: Door) -> Protocol:
    """The protocol, for a node with this door."""

    async def answer(fields: wire.Fields, asker: Asker) -> object:
        wire.known_only(fields, "application", "invitation")
        state, motion = STRANGER, None
        if fields:
            application = wire.text(fields, "application", TEXT_CHARS)
            invitation = wire.text(fields, "invitation", INVITATION_CHARS) if "invitation" in fields else None
            state, motion = await door.knock(application, invitation, asker.address)
        seeds = [[seed.node, seed.gossip, seed.link] for seed in door.seeds()[:SEEDS]]
        return {"policy": door.policy(), "state": state, "motion": motion, "seeds": seeds}

    return Protocol(NAME, COST, answer, REQUEST_BYTES, TIMEOUT_S)


# -- for who asks ------------------------------------------------------------------------------------------------------


def request(application: str | None = None, invitation: str | None = None) -> bytes:
    """To be admitted; without an application only for how strangers come in."""
    fields = {"application": application, "invitation": invitation}
    return wire.encode_request({key: value for key, value in fields.items() if value is not None})


def read_standing(value: Value) -> Standing:
    """What an answer holds; nothing of it is proven. Raises Refused ``square-bad-answer``."""
    match value:
        case {"policy": str() as policy, "state": str() as state, "motion": motion, "seeds": [*rows]}:
            if policy in POLICIES and state in STATES and len(rows) <= SEEDS and (motion is None or isinstance(motion, bytes)):
                return Standing(policy, state, motion, tuple(seed for seed in map(_seed, rows) if seed is not None))
    raise wire.bad_answer("it does not say how one comes in")


def _seed(row: Value) -> SeedEntry | None:
    match row:
        case [str() as node, str() as gossip, str() as link] if NODE_ID.fullmatch(node):
            if max(len(gossip), len(link)) <= ADDRESS_CHARS and (gossip + link).isprintable():
                return SeedEntry(node, gossip, link)
    return None
