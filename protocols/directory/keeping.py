"""The Flow that keeps a directory in order for as long as the node runs: rounds with peers, vectors to check, records to renew."""

import zlib

from meshos.effects import Ok
from meshos.errors import MeshError
from meshos.flow import Compute, Flow, Gather, Propose, Sleep, successes
from meshos.ids import NodeId
from meshos.protocols.directory import limits
from meshos.protocols.directory.arranging import arrange, place_some, settle
from meshos.protocols.directory.charting import follow, learn
from meshos.protocols.directory.commands import MACHINE, ReadUnchecked
from meshos.protocols.directory.cutting import follow_codebooks
from meshos.protocols.directory.handing import hand_over
from meshos.protocols.directory.judging import judge
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.publishing import renew
from meshos.protocols.directory.record import Sealed
from meshos.protocols.directory.spotting import spot
from meshos.protocols.directory.succession import succeed
from meshos.protocols.directory.switching import pass_round, unheard
from meshos.protocols.directory.sync import sync_with

_STEPS = round(limits.SYNC_S / limits.IDLE_S)
RENEW_EVERY = 30
"""Rounds between two looks for records to renew: a minute, of the eight hours that there is time."""


async def keep(parts: Parts) -> None:
    """Never ends: both go on until one meets a bug, and then this is begun anew."""
    successes([outcome for outcome in await Gather(_rounds(parts), follow(parts)) if not isinstance(outcome, Ok)])


async def _rounds(parts: Parts) -> None:
    """What fails for a peer (it is gone, it is busy, it sends nonsense) is tried again with another."""
    begun = turn = zlib.crc32(parts.node.encode())
    while True:
        await _tolerant(follow_codebooks(parts))
        await _tolerant(succeed(parts))
        await _tolerant(arrange(parts))
        peers = _now(parts, turn)
        await Gather(*(sync_with(parts, peer, parts.layout.shared_with(peer)) for peer in peers), each=True)
        former = unheard(parts)
        await Gather(*(sync_with(parts, peer, parts.layout.mine) for peer in former), each=True)
        pass_round(parts, former)
        await _tolerant(learn(parts, turn))
        await _tolerant(spot(parts))
        turn += 1
        if turn % RENEW_EVERY == 0:
            await _tolerant(renew(parts))
            await _tolerant(hand_over(parts, turn // RENEW_EVERY))
            if turn - begun >= RENEW_EVERY:  # who has just started knows no peers yet
                settle(parts)
        for _ in range(_STEPS):
            searches = parts.shelf.searches
            await Sleep(limits.IDLE_S)
            await _tolerant(place_some(parts))
            if parts.shelf.behind():
                await Compute(parts.shelf.catch_up, cost_s=0.001)
            if parts.shelf.searches == searches:
                await _tolerant(check_some(parts))


def _now(parts: Parts, turn: int) -> list[NodeId]:
    """Whom to compare with in this turn, of those who are alive and hold something that this node holds: one after the other, but several
    at once where it is not known yet what has happened since this node was there last."""
    partners = parts.layout.partners()
    peers = sorted(parts.peers() if partners is None else set(parts.peers()) & set(partners))
    at_once = limits.HEARD_AT_ONCE if partners is None and not parts.holds_all() else 1
    return [peers[place % len(peers)] for place in range(turn * at_once, turn * at_once + min(at_once, len(peers)))]


async def check_some(parts: Parts) -> int:
    """Compute a few vectors again that nobody here has checked; how many. Raises Failed ``model-missing``."""
    waiting: tuple[Sealed, ...] = await Propose(ReadUnchecked(limits.IDLE_CHECKS), MACHINE)
    await judge(parts, waiting)
    return len(waiting)


async def _tolerant(work: Flow[object]) -> None:
    """``work``, whose failure is no news: a peer out of reach or that answers with whatever error, a missing model. It comes again."""
    try:
        await work
    except MeshError:
        return
