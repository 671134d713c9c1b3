"""Revocation lists handed from node to node, beside the syncs of membership.

A list is signed by its organisation's root, so any member may hand it on, and of two lists the one with the higher number counts. After a
sync the asker names the numbers that it holds, and takes one newer list an answer:

    {"have": {organisation: number}}     -> {"org": organisation, "list": DER, "more": bool}, or {} where nothing is newer

Who is asked by somebody that holds newer lists takes these first, and answers then. So a node to which a list is new spreads it by asking a
few others (``spread``), each of which does the same: all have it after some log(n) rounds, and the syncs find whoever was away.

Whoever was revoked hears of nothing here: it has no link any more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from meshos import cbor
from meshos.crypto.certificates import RevocationList
from meshos.crypto.limits import CRL_BYTES
from meshos.errors import MeshError, Refused
from meshos.flow import Ask, Port
from meshos.ids import NodeId, OrgDid
from meshos.protocols.membership import limits
from meshos.protocols.rpc.events import Inbound

PROTOCOL = "/meshos/revocations/1"
SPREAD_FLOW = "membership.spread-revocations"

Held = Callable[[], Mapping[OrgDid, RevocationList]]
"""The newest list of each organisation that this node holds."""


@dataclass(frozen=True, slots=True)
class TakeRevocations:
    """Effect of a Port: check and keep a list of ``org`` (DER), and act on it if it is newer than what is held; gives whether it was.

    Fails as ``read_revocations``, and with ``unknown-org``.
    """

    org: OrgDid
    der: bytes


class Revocations:
    """Both sides. ``held`` is read whenever a question is asked or answered, and is another object whenever a list has come."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self._turn = 0
        self._failed = 0
        self._fetching: set[NodeId] = set()

    def statistics(self) -> dict[str, int]:
        """How many exchanges with a peer have failed."""
        return {"failed": self._failed}

    async def fetch_tolerant(self, peer: NodeId) -> None:
        """``fetch``, whose failure is counted: what a sync has brought counts whatever becomes of the lists; the next asks again."""
        try:
            await self.fetch(peer)
        except MeshError:
            self._failed += 1

    async def spread(self, peers: Sequence[NodeId]) -> None:
        """The Flow ``membership.spread-revocations``: ask each of ``peers``, which then takes what is newer here."""
        for peer in peers:
            await self.fetch_tolerant(peer)

    async def fetch(self, peer: NodeId) -> int:
        """Take the lists of which ``peer`` holds newer ones; gives how many. One such exchange with a peer goes on at a time."""
        if peer in self._fetching:
            return 0
        self._fetching.add(peer)
        try:
            return await self._fetch(peer)
        finally:
            self._fetching.discard(peer)

    async def _fetch(self, peer: NodeId) -> int:
        taken = 0
        for _ in range(limits.LISTS):
            have = {str(org): listed.number for org, listed in list(self.held().items())[: limits.LISTS_NAMED]}
            answer = _decode(await Ask(peer, PROTOCOL, cbor.encode({"have": have}), timeout_s=limits.ASK_S), CRL_BYTES + 256)
            if not answer:
                break
            org, der = answer.get("org"), answer.get("list")
            if not isinstance(org, str) or not isinstance(der, bytes):
                raise _bad("it holds no list")
            newer = await Port[bool](TakeRevocations(OrgDid(org), der))
            taken += newer
            if not newer or answer.get("more") is not True:  # not newer: another sync was quicker, or the peer repeats itself
                break
        return taken

    async def serve(self, inbound: Inbound) -> bytes:
        """The service ``/meshos/revocations/1``."""
        have = _decode(inbound.body, limits.LISTS_NAMED_BYTES).get("have")
        if not isinstance(have, dict) or len(have) > limits.LISTS_NAMED or not all(type(number) is int for number in have.values()):
            raise _bad("it does not say which lists are held")
        if any(_number(number) > _number_of(self.held().get(OrgDid(str(org)))) for org, number in have.items()):
            await self.fetch_tolerant(inbound.peer.node)
        newer = [listed for org, listed in self.held().items() if listed.number > _number(have.get(org))]
        if not newer:
            return cbor.encode({})
        self._turn += 1  # in turn, so that a list that the asker does not take keeps no other back
        chosen = newer[self._turn % len(newer)]
        return cbor.encode({"org": chosen.org, "list": chosen.der, "more": len(newer) > 1})


def _number(value: cbor.Value) -> int:
    return value if isinstance(value, int) else -1


def _number_of(listed: RevocationList | None) -> int:
    return -1 if listed is None else listed.number


def _decode(data: bytes, max_bytes: int) -> dict[str, cbor.Value]:
    body = cbor.decode(data, max_bytes=max_bytes)
    if not isinstance(body, dict):
        raise _bad("it is not a map")
    return body


def _bad(why: str) -> Refused:
    return Refused("bad-sync", f"a message about revocation lists is refused: {why}")
