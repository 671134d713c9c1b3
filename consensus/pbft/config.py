"""What a replica is told at its start: the mesh, who it is, and how patient it is."""

from dataclasses import dataclass, field

from meshos.consensus.pbft.limits import CHECKPOINT_INTERVAL, MAX_BLOCK_BYTES, MAX_BLOCK_REQUESTS
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.ids import NodeId


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a replica waits for what, in milliseconds."""

    patience_ms: int = 1_000
    """Something waits to be decided and nothing is: the view is left. Well above what a block takes on a busy machine, and low enough
    that after the death of a primary the next block is there within 2 s."""
    flat: int = 2
    """So many view changes in a row wait ``patience_ms``; each further one twice as long as the one before."""
    max_patience_ms: int = 8_000
    """But no longer: after the longest partition the next block is there within f + 2 times this, one for a view that began too early
    and one for each liar whose turn it is."""
    resend_ms: int = 250
    """What was said and had no effect is said again."""
    relay_ms: int = 300
    """A request that waits for so long is sent to the primary again, which may not have got it."""
    status_ms: int = 2_000
    """Every replica says how far it is."""
    fetch_ms: int = 1_000
    """A node that does not answer is left for another."""
    idle_ms: int = 5_000
    """While something waits for ledger time to pass, a block is made this often (DESIGN.md, "Ledger time")."""
    clock_ms: int = 2_000
    """A fresh proposal further off one's own clock is refused (DESIGN.md, "Ledger time")."""
    witness_ms: int = 500
    """At its start a validator asks the others this often what they have seen of it."""
    follow_ms: int = 2_000
    """Who only follows asks this often."""


TRANSFER_BLOCKS = 1_024
"""Whoever is further behind takes a state: in a second or two, as fetching and executing so many blocks."""


@dataclass(frozen=True, slots=True)
class Config:
    """One replica. ``node`` is a validator wherever a set names it with ``key``; else it follows."""

    node: NodeId
    key: str
    """The Multikey that it signs votes with."""
    genesis_hash: bytes
    genesis_time_ms: int
    validators: ValidatorSet
    """Of epoch 0, as genesis names them."""
    timing: Timing = field(default_factory=Timing)
    checkpoint_interval: int = CHECKPOINT_INTERVAL
    """The same for all nodes of a mesh; smaller in simulations, so that they meet more boundaries."""
    batch_requests: int = MAX_BLOCK_REQUESTS
    batch_bytes: int = MAX_BLOCK_BYTES
    """What this node proposes at most."""
    keep_blocks: int | None = None
    """How many blocks below the newest checkpoint are kept to be served; None: all."""
    transfer_blocks: int = TRANSFER_BLOCKS
    """Whoever is further behind than this takes a checkpoint's state instead of the blocks."""

    def __post_init__(self) -> None:
        timing = self.timing
        if not 1 <= self.batch_requests <= MAX_BLOCK_REQUESTS or not 1 <= self.batch_bytes <= MAX_BLOCK_BYTES:
            raise ValueError("a batch is larger than a block may be")
        if self.checkpoint_interval < 1 or self.validators.epoch != 0:
            raise ValueError("a mesh begins with epoch 0, and has checkpoints")
        if not timing.relay_ms < timing.patience_ms <= timing.max_patience_ms or not timing.resend_ms < timing.patience_ms:
            raise ValueError("a request is relayed and votes are sent again before the view is left")
        if timing.clock_ms >= timing.idle_ms:
            raise ValueError("idle blocks come further apart than clocks may be")
