"""What may be proposed: how a primary makes a block, and how the others judge it.

A fresh block is judged by everything: that it follows, its time, its requests. One that a new view carries over is judged only by
whether it follows: q validators have judged the rest, in another view, by the clocks of that time.
"""

from meshos.consensus.pbft.block import Block, Header, requests_root
from meshos.consensus.pbft.chain import Chain
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.pool import Pending, Pool
from meshos.errors import MeshError, Refused


def make_block(chain: Chain, requests: tuple[Pending, ...], time_ms: int) -> Block:
    """The next block, of these requests."""
    header = Header(
        height=chain.height + 1,
        epoch=chain.epoch,
        time_ms=time_ms,
        parent=chain.head,
        state_root=chain.root,
        requests_root=requests_root([pending.hash for pending in requests]),
        next_validators=chain.named_next().hash,
    )
    return Block(header, tuple(pending.request for pending in requests))


def fresh_time(chain: Chain, wall_ms: int) -> int:
    """The time of a block that is proposed now: above the parent's (DESIGN.md, "Ledger time")."""
    return max(chain.time_ms + 1, wall_ms)


def null_block(chain: Chain) -> Block:
    """What a new view may begin with where nothing is to be carried over: it needs no clock (Castro & Liskov 1999, section 4.4)."""
    return make_block(chain, (), chain.time_ms + 1)


def choose_requests(chain: Chain, pool: Pool, config: Config, time_ms: int) -> tuple[tuple[Pending, ...], list[tuple[Pending, MeshError]]]:
    """What waits, oldest first, as much as fits into a batch; and what is not to be ordered any more, with the reason."""
    chosen: list[Pending] = []
    refused: list[tuple[Pending, MeshError]] = []
    size = 0
    batch = chain.batch(time_ms)
    for pending in pool:
        if len(chosen) >= config.batch_requests or size + len(pending.request) > config.batch_bytes:
            break
        if batch.admit(pending.request) is None:
            chosen.append(pending)
            size += len(pending.request)
        elif (never := chain.admit(pending.request, time_ms)) is not None:
            refused.append((pending, never))
    return tuple(chosen), refused


def is_null(block: Block, chain: Chain) -> bool:
    """Whether it is the null block of this height."""
    return not block.requests and block.header.time_ms == chain.time_ms + 1


def judge_fresh(chain: Chain, block: Block, config: Config, wall_ms: int, *, may_be_null: bool) -> None:
    """Raise a named refusal unless a replica may vote for this fresh proposal.

    Refused as ``Chain.check_links``, ``time-not-after-parent``, ``clock-apart``, ``needless-block``, ``request-repeated``, or what the
    application says of a request.
    """
    chain.check_links(block.header)
    if may_be_null and is_null(block, chain):
        return
    time_ms, timing = block.header.time_ms, config.timing
    if time_ms <= chain.time_ms:
        raise Refused("time-not-after-parent", f"a block of the time {time_ms}, and its parent's is {chain.time_ms}")
    if abs(time_ms - wall_ms) > timing.clock_ms:
        raise Refused("clock-apart", f"a block of the time {time_ms}, which is {time_ms - wall_ms} ms off this node's clock")
    if not block.requests and not _wanted(chain, time_ms, config):
        raise Refused("needless-block", "a block without a request, for which nothing waits")
    batch = chain.batch(time_ms)
    for name, request in zip(block.request_hashes, block.requests, strict=True):
        if chain.place(name) is not None:
            raise Refused("request-repeated", f"the request {name.hex()[:16]} was ordered before")
        error = batch.admit(request)
        if error is not None:
            raise error


def _wanted(chain: Chain, time_ms: int, config: Config) -> bool:
    """Idle blocks, and not more often than that (less what clocks may be apart)."""
    apart = config.timing.idle_ms - 2 * config.timing.clock_ms
    return time_ms - chain.time_ms >= apart and chain.wants_block(time_ms)
