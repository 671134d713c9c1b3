"""Push/pull anti-entropy over the link (SWIM has none; the idea is that of memberlist and of Demers et al. 1987), as Flows.

One asks, the other's service ``/meshos/membership/1`` answers. Bodies are canonical CBOR maps:

    {"step": "compare", "have": digests}            -> {"give": [statement...], "want": digests, "more": bool}
    {"step": "certificates", "of": [node...]}       -> {"certificates": [DER...]}
    {"step": "take", "statements": [...],
                     "certificates": [...]}         -> {"strangers": [node...]}

The asker says what it holds (8 bytes a statement), gets what it lacks page by page, and pushes what the other wants. Statements
are verified in a worker thread before the machine meets them; a page with a signature that does not hold is refused as a whole.
Whoever lacks the certificate of a subject or accuser asks for it, checks it, and only then counts what that node says
(docs/decisions/0003-membership.md).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from meshos import cbor
from meshos.crypto.signing import Claim, Domain, Verifier
from meshos.errors import MeshError, Refused
from meshos.flow import Ask, Compute, Propose
from meshos.flow_machine import Service
from meshos.ids import NodeId, Peer
from meshos.protocols.membership import limits
from meshos.protocols.membership.codec import decode_statement
from meshos.protocols.membership.commands import (
    Certified,
    Compare,
    Difference,
    FindStrangers,
    Merge,
    ReadCertificates,
    ReadStates,
    Supply,
)
from meshos.protocols.membership.probing import PROBE_PROTOCOL
from meshos.protocols.membership.revocations import PROTOCOL as REVOCATIONS
from meshos.protocols.membership.revocations import SPREAD_FLOW, Revocations
from meshos.protocols.membership.statements import Statement
from meshos.protocols.membership.syncing import SYNC_FLOW, SyncArgument
from meshos.protocols.rpc.events import Inbound

PROTOCOL = "/meshos/membership/1"
MACHINE = "membership"

VERIFY_COST_S = 0.00006
"""What the simulator charges for one signature (PyNaCl, 53 µs) and for one certificate."""

CheckCertificate: TypeAlias = Callable[[bytes], Peer]
"""Whom a DER certificate names, if it is good now under this mesh's trust; raises MeshError. Run in a worker thread."""

Body: TypeAlias = dict[str, cbor.Value]


def services(verifier: Verifier, domain: Domain, check: CheckCertificate, revocations: Revocations | None = None) -> dict[str, Service]:
    """The Flows of membership by name: its sync, its service, and the probe's; and those of revocation lists, where there are any."""
    edge = Edge(verifier, domain, check, revocations)
    found: dict[str, Service] = {SYNC_FLOW: edge.sync, PROTOCOL: edge.serve, PROBE_PROTOCOL: probed}
    return found if revocations is None else found | {REVOCATIONS: revocations.serve, SPREAD_FLOW: revocations.spread}


async def probed(inbound: Inbound) -> bytes:
    """The probe over the link: to answer is all there is to say."""
    del inbound
    return b""


class Edge:
    """What stands between other nodes' bytes and the machine."""

    def __init__(self, verifier: Verifier, domain: Domain, check: CheckCertificate, revocations: Revocations | None = None) -> None:
        self._verifier = verifier
        self._domain = domain
        self._check = check
        self._revocations = revocations

    # -- asking ------------------------------------------------------------------------------------------------------

    async def sync(self, argument: SyncArgument) -> int:
        """Exchange statements with ``argument.peer``; gives how many were news here."""
        peer = argument.peer
        news = 0
        met: dict[bytes, None] = {}  # digests given in this sync, so that what the machine refuses is not given again
        pushed: dict[bytes, None] = {}
        for _ in range(limits.PAGES):
            have: bytes = await Propose(ReadStates(), to=MACHINE)
            named = (have + b"".join(met))[: limits.DIGESTS * limits.DIGEST_BYTES]
            answer = await _ask(peer, {"step": "compare", "have": named})
            give, want = _blobs(answer, "give"), _bytes(answer, "want")
            if give:
                statements = await self._verified(give)
                before = self._trust()
                certificates = await self._still_good(await self._introduced(peer, statements), before)
                news += await Propose(Merge(tuple(statements), tuple(certificates), peer), to=MACHINE)
                met.update(dict.fromkeys(statement.digest for statement in statements))
            fresh = [digest for digest in _split(want) if digest not in pushed and digest not in met]
            pushed.update(dict.fromkeys(fresh))
            await self._push(peer, fresh)
            if answer.get("more") is not True:
                break
        if self._revocations is not None:
            await self._revocations.fetch_tolerant(peer)
        return news

    async def _introduced(self, peer: NodeId, statements: Sequence[Statement]) -> list[Certified]:
        """The certificates of those whom this node does not know yet, from ``peer``."""
        nodes = list(dict.fromkeys(node for said in statements for node in (said.subject, said.signer)))
        strangers: list[NodeId] = list(await Propose(FindStrangers(tuple(nodes)), to=MACHINE))
        found: list[Certified] = []
        while strangers:
            asked: list[cbor.Value] = list(strangers[: limits.NODES_ASKED])
            page = _blobs(await _ask(peer, {"step": "certificates", "of": asked}), "certificates")
            certified = await self._checked(page)
            found += certified
            known = {one.node for one in certified}
            left = [node for node in strangers if node not in known]
            if len(left) == len(strangers):
                break  # of these the peer has no certificate that is good here
            strangers = left
        return found

    async def _push(self, peer: NodeId, digests: Sequence[bytes]) -> None:
        for at in range(0, len(digests), limits.PUSH):
            blobs: tuple[bytes, ...] = await Propose(Supply(b"".join(digests[at : at + limits.PUSH])), to=MACHINE)
            if not blobs:
                continue
            answer = await _ask(peer, {"step": "take", "statements": list(blobs), "certificates": []})
            strangers = _nodes(answer, "strangers")
            if strangers:
                certificates: tuple[bytes, ...] = await Propose(ReadCertificates(tuple(strangers)), to=MACHINE)
                await _ask(peer, {"step": "take", "statements": [], "certificates": list(certificates)})
                await _ask(peer, {"step": "take", "statements": list(blobs), "certificates": []})

    # -- answering ---------------------------------------------------------------------------------------------------

    async def serve(self, inbound: Inbound) -> bytes:
        """The service ``/meshos/membership/1``."""
        body = _decode(inbound.body)
        answer: Mapping[str, object]
        step = body.get("step")
        if step == "compare":
            have = _bytes(body, "have")
            difference: Difference = await Propose(Compare(have), to=MACHINE)
            answer = {"give": difference.give, "want": difference.want, "more": difference.more}
        elif step == "certificates":
            nodes = _nodes(body, "of")
            certificates: tuple[bytes, ...] = await Propose(ReadCertificates(tuple(nodes)), to=MACHINE)
            answer = {"certificates": certificates}
        elif step == "take":
            answer = {"strangers": await self._take(inbound.peer.node, _blobs(body, "statements"), _blobs(body, "certificates"))}
        else:
            raise _bad("it names no step of a sync")
        return cbor.encode(answer)

    async def _take(self, sender: NodeId, blobs: Sequence[bytes], certificates: Sequence[bytes]) -> list[NodeId]:
        before = self._trust()
        certified = await self._still_good(await self._checked(certificates), before)
        if certified:
            await Propose(Merge((), tuple(certified), sender), to=MACHINE)
        statements = await self._verified(blobs)
        nodes = list(dict.fromkeys(node for said in statements for node in (said.subject, said.signer)))
        strangers: tuple[NodeId, ...] = await Propose(FindStrangers(tuple(nodes)), to=MACHINE)
        known = [said for said in statements if said.subject not in strangers and said.signer not in strangers]
        if known:
            await Propose(Merge(tuple(known), (), sender), to=MACHINE)
        return list(strangers)

    # -- verifying ---------------------------------------------------------------------------------------------------

    async def _verified(self, blobs: Sequence[bytes]) -> list[Statement]:
        """The statements in ``blobs``, all of whose signatures hold; raises Refused otherwise."""
        if not blobs:
            return []
        return await Compute(lambda: verified(self._verifier, self._domain, blobs), cost_s=VERIFY_COST_S * len(blobs))

    async def _checked(self, certificates: Sequence[bytes]) -> list[Certified]:
        """Those certificates that are good here; one that has run out since the peer saw it is no crime of the peer's."""
        if not certificates:
            return []
        return await Compute(lambda: checked(self._check, certificates), cost_s=VERIFY_COST_S * len(certificates))

    async def _still_good(self, certified: list[Certified], before: object) -> list[Certified]:
        """Of certificates that were checked since ``before``, those that are good under the trust that holds at their merge.

        A list that came meanwhile has expelled its nodes already: whoever was admitted after it would stay.
        """
        while certified and before is not (now := self._trust()):
            before, certified = now, await self._checked([one.certificate for one in certified])
        return certified

    def _trust(self) -> object:
        """Another object whenever a list has come."""
        return None if self._revocations is None else self._revocations.held()


def verified(verifier: Verifier, domain: Domain, blobs: Sequence[bytes]) -> list[Statement]:
    """Decode and verify; raises Refused ``bad-statement``, ``bad-signature`` and what decoding raises."""
    statements = [decode_statement(blob) for blob in blobs]
    holds = verifier.verify_many([claim(domain, said) for said in statements])
    for said, good in zip(statements, holds, strict=True):
        if not good:
            raise Refused("bad-signature", f"a statement about {said.subject} was not signed by {said.signer}")
    return statements


def claim(domain: Domain, said: Statement) -> Claim:
    """What is to be verified about a statement."""
    return Claim(said.signer, domain, said.payload, said.signature)


def checked(check: CheckCertificate, certificates: Sequence[bytes]) -> list[Certified]:
    """Whom the good ones among ``certificates`` name."""
    found = []
    for certificate in certificates:
        try:
            peer = check(certificate)
        except MeshError:
            continue  # not good here, or not any more: its node stays a stranger
        found.append(Certified(peer.node, peer.org, certificate))
    return found


# -- bodies ----------------------------------------------------------------------------------------------------------


async def _ask(peer: NodeId, body: Mapping[str, Any]) -> Body:
    return _decode(await Ask(peer, PROTOCOL, cbor.encode(body), timeout_s=limits.ASK_S))


def _decode(data: bytes) -> Body:
    body = cbor.decode(data, max_bytes=limits.FRAME_BYTES)
    if not isinstance(body, dict):
        raise _bad("it is not a map")
    return body


def _bytes(body: Body, name: str) -> bytes:
    value = body.get(name)
    if not isinstance(value, bytes) or len(value) % limits.DIGEST_BYTES or len(value) > limits.DIGESTS * limits.DIGEST_BYTES:
        raise _bad(f"{name} is not a row of digests")
    return value


def _blobs(body: Body, name: str) -> list[bytes]:
    value = body.get(name)
    if not isinstance(value, list):
        raise _bad(f"{name} is not a list of bytes")
    blobs = [blob for blob in value if isinstance(blob, bytes) and 0 < len(blob) <= limits.CERTIFICATE_BYTES]
    if len(blobs) != len(value):
        raise _bad(f"{name} holds something that is not bytes, or too many of them")
    return blobs


def _nodes(body: Body, name: str) -> list[NodeId]:
    value = body.get(name)
    if not isinstance(value, list) or len(value) > limits.NODES_ASKED:
        raise _bad(f"{name} is not a short list of nodes")
    nodes = [NodeId(node) for node in value if isinstance(node, str) and len(node) <= limits.NODE_CHARS]
    if len(nodes) != len(value):
        raise _bad(f"{name} holds something that is no node id")
    return nodes


def _split(joined: bytes) -> list[bytes]:
    step = limits.DIGEST_BYTES
    return [joined[at : at + step] for at in range(0, len(joined), step)]


def _bad(why: str) -> Refused:
    return Refused("bad-sync", f"a message of a membership sync is refused: {why}")
