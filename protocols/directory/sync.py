"""How directories become alike: each node pulls what it lacks, and is told at once when there is something new.

A *round* with a peer compares roots (one message, when nothing differs), then the digests of 256 buckets, then lists the buckets that
differ, then fetches what is missing or newer, page by page. Only pulled entries are merged, and only after their signatures held,
so that nobody can push anything (Demers et al. 1987, section 1.3: pull converges faster once most have an update). An
*announcement* names what a node has just published; who lacks it pulls it from the announcer. A lost one costs nothing but the time
until the next round.
"""

from collections.abc import Sequence
from functools import partial

from meshos.flow import Ask, Compute, Gather, Propose
from meshos.ids import AgentId, NodeId, OrgDid
from meshos.protocols.directory import limits
from meshos.protocols.directory.checking import Admitted
from meshos.protocols.directory.commands import (
    MACHINE,
    Digest,
    Item,
    Items,
    Judge,
    Merge,
    Merged,
    Read,
    ReadDigest,
    ReadItems,
    Want,
    Wanted,
)
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.record import PROTOCOL
from meshos.protocols.directory.wire import (
    HINT,
    AskDigest,
    AskEntries,
    AskItems,
    Request,
    decode_digests,
    decode_entries,
    decode_hint,
    decode_items,
    decode_request,
    encode_digests,
    encode_entries,
    encode_hint,
    encode_items,
    encode_request,
)
from meshos.protocols.rpc.events import Inbound

BUCKETS_ASKED = 32
"""Buckets listed in one request: 1,250 entries of a directory of 10,000, a page or two."""


async def serve(inbound: Inbound) -> bytes:
    """The service ``/meshos/directory/1``. Raises Refused ``bad-message``."""
    match decode_request(inbound.body):
        case AskDigest(root):
            digest: Digest = await Propose(ReadDigest(), MACHINE)
            return encode_digests(None if digest.root == root else digest.buckets)
        case AskItems(buckets, after):
            items: Items = await Propose(ReadItems(buckets, after), MACHINE)
            return encode_items(items)
        case AskEntries(ids):
            entries: tuple[bytes, ...] = await Propose(Read(ids, limits.PAGE_BYTES), MACHINE)
            return encode_entries(entries)


async def hinted(parts: Parts, inbound: Inbound) -> bytes:
    """The service ``/meshos/directory-hint/1``: fetch what was announced, if it is news.

    One at a time for each peer, or its announcements could fill the table of Flows: one that comes meanwhile is answered at once, and a
    round follows for it.
    """
    announced, peer = decode_hint(inbound.body), inbound.peer.node
    if peer in parts.hinted_by:
        parts.hinted_by[peer] = True
        return b""
    parts.hinted_by[peer] = not announced
    try:
        if announced:
            wanted: Wanted = await Propose(Want(announced), MACHINE)
            await fetch(parts, peer, wanted.ids, wanted.suspected, limits.PAGES_A_ROUND)
        while parts.hinted_by[peer]:
            parts.hinted_by[peer] = False
            await sync_with(parts, peer)
    finally:
        del parts.hinted_by[peer]
    return b""


async def tell(parts: Parts, items: tuple[Item, ...]) -> None:
    """Announce what this node has published. Whom it does not reach learns of it in a round."""
    body = encode_hint(items)
    peers = sorted(parts.peers())[: limits.HINT_PEERS]
    await Gather(*(Ask(peer, HINT, body, limits.HINT_TIMEOUT_S, retries=0) for peer in peers))


async def sync_with(parts: Parts, peer: NodeId) -> int:
    """One round with ``peer``; how many entries it brought. Raises what asking raises. One round at a time with a peer."""
    if peer in parts.busy_with:
        return 0
    parts.busy_with.add(peer)
    try:
        return await _round(parts, peer)
    finally:
        parts.busy_with.discard(peer)


async def _round(parts: Parts, peer: NodeId) -> int:
    mine: Digest = await Propose(ReadDigest(), MACHINE)
    theirs = decode_digests(await _ask(peer, AskDigest(mine.root)))
    if theirs is None:
        return 0
    size = limits.BUCKET_DIGEST_BYTES
    differ = [number for number, digest in enumerate(theirs) if digest != mine.buckets[number * size : (number + 1) * size]]
    pages, news = limits.PAGES_A_ROUND, 0
    for start in range(0, len(differ), BUCKETS_ASKED):
        buckets, after, more = tuple(differ[start : start + BUCKETS_ASKED]), "", True
        while more and pages > 0:
            listed = decode_items(await _ask(peer, AskItems(buckets, after)))
            more, after, pages = listed.more, listed.items[-1].id if listed.items else "", pages - 1
            wanted: Wanted = await Propose(Want(listed.items), MACHINE)
            used, found = await fetch(parts, peer, wanted.ids, wanted.suspected, pages)
            pages, news = pages - used, news + found
    return news


async def fetch(parts: Parts, peer: NodeId, ids: Sequence[AgentId], suspected: frozenset[OrgDid], pages: int) -> tuple[int, int]:
    """Pull these entries from ``peer``, verify and merge them, in at most ``pages`` requests; how many were used, and were news."""
    left, used, news = list(ids), 0, 0
    while left and used < pages:
        batch, left = left[: limits.IDS_A_PAGE], left[limits.IDS_A_PAGE :]
        entries = decode_entries(await _ask(peer, AskEntries(tuple(batch))))
        used += 1
        admitted: Admitted = await Compute(partial(parts.checker.admit, entries, suspected), cost_s=0.0003 * len(entries))
        out = (*admitted.cheats, *admitted.shunned)
        if out:  # before the rest of the page is merged: who has cheated too often is refused from here on
            orgs = tuple(sealed.entry.mesh_id for sealed in admitted.cheats)
            suspected = await Propose[frozenset[OrgDid]](Judge((), (), orgs, tuple(sealed.digest for sealed in out)), MACHINE)
        merged: Merged = await Propose(Merge(admitted.entries, admitted.checked), MACHINE)
        news += merged.news
        came = {sealed.entry.agent_id for sealed in (*admitted.entries, *out)}
        if came & set(batch):  # a page holds so many bytes; of what the peer has not any more, nothing comes
            left = [agent for agent in batch if agent not in came] + left
    return used, news


async def _ask(peer: NodeId, request: Request) -> bytes:
    return await Ask(peer, PROTOCOL, encode_request(request), limits.SYNC_TIMEOUT_S, retries=1)
