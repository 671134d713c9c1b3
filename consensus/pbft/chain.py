"""The committed part: blocks that are decided for ever, the state after them, and who decides next.

Theory of operation. ``apply`` takes the next certified block, has the application execute it, and gives the writes that make it so: they
may reach the disk late (``WriteBack``), since q validators hold the block on theirs, and a replica that lost a tail fetches it again.
All else here is what can be known from the committed prefix alone: the parent, root and validators that the next header must name.

The validator set of height h + 1 is named in header h. A change that a block decides is ``pending`` until the header of a boundary
names it (``checkpoint.py``); of several the last one counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meshos import cbor
from meshos.consensus.pbft.application import Application, Batch, Executed
from meshos.consensus.pbft.block import Certified, Header, decode_certified
from meshos.consensus.pbft.checkpoint import is_boundary
from meshos.consensus.pbft.codec import step_fields, step_of
from meshos.consensus.pbft.config import Config
from meshos.consensus.pbft.limits import MAX_RESULT_BYTES
from meshos.consensus.pbft.messages import Checkpoint, EpochStep
from meshos.consensus.pbft.records import (
    HEAD,
    SETS,
    HeadRecord,
    block_key,
    decode_head,
    decode_place,
    encode_head,
    encode_place,
    encode_sets,
    epoch_key,
    read,
    request_key,
)
from meshos.consensus.pbft.validators import ValidatorSet
from meshos.effects import Delete, Put, Write
from meshos.errors import Broken, MeshError, Refused
from meshos.storage.store import View


@dataclass(frozen=True, slots=True)
class Applied:
    """What a block did here: what to write, and what each request came to."""

    writes: tuple[Write, ...]
    results: tuple[bytes, ...]


class Chain:
    """What was committed, read from ``view`` at the start; ``genesis`` writes must be laid down before, if it is new."""

    def __init__(self, config: Config, application: Application, view: View) -> None:
        self._config = config
        self._application = application
        self._view = view
        data, sets = view.get(HEAD), view.get(SETS)
        self.new = data is None or sets is None
        self._head = self._first() if data is None or sets is None else decode_head(data, sets)

    def _first(self) -> HeadRecord:
        config = self._config
        root = self._application.genesis().root
        return HeadRecord(0, config.genesis_hash, config.genesis_time_ms, 0, root, 1, 1, config.validators, None)

    def genesis(self) -> tuple[Write, ...]:
        """The writes of height 0."""
        self.new = False
        return (*self._application.genesis().writes, *self._goes_to(self._head))

    def _goes_to(self, head: HeadRecord) -> tuple[Write, ...]:
        """Have another head; the writes that say so."""
        before, self._head = self._head, head
        same = head is not before and head.validators is before.validators and head.pending is before.pending
        return (Put(HEAD, encode_head(head)),) if same else (Put(HEAD, encode_head(head)), Put(SETS, encode_sets(head)))

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def height(self) -> int:
        """Of the newest block."""
        return self._head.height

    @property
    def head(self) -> bytes:
        """Its hash; before the first block the genesis hash."""
        return self._head.hash

    @property
    def time_ms(self) -> int:
        """Ledger time."""
        return self._head.time_ms

    @property
    def head_view(self) -> int:
        """The view in which the newest block was decided; 0 at the beginning of an epoch."""
        return self._head.view

    @property
    def root(self) -> bytes:
        """Of the state after it."""
        return self._head.root

    @property
    def base(self) -> int:
        """The lowest height whose block is kept here."""
        return self._head.base

    @property
    def first(self) -> int:
        """The first height of this epoch."""
        return self._head.first

    @property
    def epoch(self) -> int:
        """Of the validators that decide the next block."""
        return self._head.validators.epoch

    @property
    def validators(self) -> ValidatorSet:
        """Who decides the next block."""
        return self._head.validators

    @property
    def pending(self) -> ValidatorSet | None:
        """Who shall decide from the next boundary on, if that was changed."""
        return self._head.pending

    def named_next(self) -> ValidatorSet:
        """The set that the next header must name: whose first block is the one after it."""
        head = self._head
        if head.pending is not None and is_boundary(head.height + 1, self._config.checkpoint_interval):
            return head.pending
        return head.validators

    def validators_at(self, height: int) -> ValidatorSet | None:
        """Who decides ``height``, if that is known: it depends on blocks that are not there yet, beyond the next boundary."""
        head = self._head
        ahead = height - head.height
        if ahead < 1:
            return None
        interval = self._config.checkpoint_interval
        boundary = -(-(head.height + 1) // interval) * interval
        if height <= boundary:
            return head.validators
        return self.named_next() if boundary == head.height + 1 and height <= boundary + interval else None

    def validators_of(self, epoch: int) -> ValidatorSet | None:
        """The set of an epoch that has begun, or is about to."""
        if epoch == self.epoch:
            return self.validators
        upcoming = self.named_next()
        if epoch == upcoming.epoch:
            return upcoming
        if epoch == 0:
            return self._config.validators
        step = self.step_into(epoch)
        return None if step is None else step.validators

    def step_into(self, epoch: int) -> EpochStep | None:
        """How an epoch began."""
        data = self._view.get(epoch_key(epoch))
        return None if data is None else step_of(read(data))

    def certified(self, height: int) -> Certified | None:
        """A block that is kept."""
        data = self._view.get(block_key(height))
        return None if data is None else decode_certified(data)

    def hash_at(self, height: int) -> bytes | None:
        """Of a block that is kept."""
        if height == self.height:
            return self.head
        if height == 0:
            return self._config.genesis_hash
        certified = self.certified(height)
        return None if certified is None else certified.block.hash

    def place(self, request_hash: bytes) -> tuple[int, int, bytes] | None:
        """Where a request was ordered: height, index, result."""
        data = self._view.get(request_key(request_hash))
        return None if data is None else decode_place(data)

    # -- what comes next -----------------------------------------------------------------------------------------------

    def admit(self, request: bytes, now_ms: int) -> MeshError | None:
        """Why the application does not want ``request`` ordered."""
        return self._application.admit(self._view, request, now_ms)

    def batch(self, now_ms: int) -> Batch:
        """What the next block may hold."""
        return self._application.batch(self._view, now_ms)

    def wants_block(self, now_ms: int) -> bool:
        """Whether the application waits for ledger time to pass, or other validators for their boundary: a quiet mesh reaches it too."""
        return self._head.pending is not None or self._application.wants_block(self._view, now_ms)

    def check_links(self, header: Header) -> None:
        """Raise unless ``header`` follows what was committed; what does not depend on who proposes it, or when.

        Refused ``wrong-height``, ``wrong-parent``, ``wrong-epoch``, ``wrong-state-root`` or ``wrong-validators``.
        """
        if header.height != self.height + 1:
            raise Refused("wrong-height", f"a block for height {header.height}; the next is {self.height + 1}")
        if header.parent != self.head:
            raise Refused("wrong-parent", f"the block for height {header.height} follows another one than was decided")
        if header.epoch != self.epoch:
            raise Refused("wrong-epoch", f"a block of epoch {header.epoch} at height {header.height}, which is of {self.epoch}")
        if header.state_root != self.root:
            raise Refused("wrong-state-root", f"the block for height {header.height} names another state before it than is here")
        if header.next_validators != self.named_next().hash:
            raise Refused("wrong-validators", f"the block for height {header.height} names other validators after it")

    def apply(self, certified: Certified) -> Applied:
        """Commit the next block, whose certificate was checked; raises what ``Application.execute`` does.

        Raises Broken ``state-diverged`` where it does not follow: q validators say otherwise, so the state here is not theirs.
        """
        header, block = certified.block.header, certified.block
        try:
            self.check_links(header)
        except Refused as error:
            raise Broken("state-diverged", f"q validators decided what this node cannot follow: {error.detail}") from error
        executed = self._application.execute(self._view, block)
        if len(executed.results) != len(block.requests) or any(len(result) > MAX_RESULT_BYTES for result in executed.results):
            raise Broken("state-diverged", "the application has not given one short result for each request")
        writes = [*executed.writes, *self._writes_of(certified, executed.results)]
        before = self._head
        named = self.named_next()
        if named is not before.validators:
            step = EpochStep(header, certified.certificate, named)
            writes.append(Put(epoch_key(named.epoch), cbor.encode(step_fields(step))))
        writes += self._goes_to(self._after(header, certified.certificate.view, executed, named))
        return Applied(tuple(writes), executed.results)

    def _after(self, header: Header, view: int, executed: Executed, named: ValidatorSet) -> HeadRecord:
        before = self._head
        begins = named is not before.validators
        pending = None if begins else before.pending
        wanted = executed.next_validators
        if wanted is not None:
            pending = None if wanted.entries == named.entries else replace(wanted, epoch=named.epoch + 1)
        return replace(
            before,
            height=header.height,
            hash=header.hash,
            time_ms=header.time_ms,
            view=0 if begins else view,
            root=executed.root,
            first=header.height + 1 if begins else before.first,
            validators=named,
            pending=pending,
        )

    def _writes_of(self, certified: Certified, results: Sequence[bytes]) -> list[Write]:
        height = certified.block.header.height
        writes: list[Write] = [Put(block_key(height), certified.encoded)]
        for index, (name, result) in enumerate(zip(certified.block.request_hashes, results, strict=True)):
            writes.append(Put(request_key(name), encode_place(height, index, result)))
        return writes

    def prune(self, below: int, most: int = 64) -> tuple[Write, ...]:
        """Let go of the blocks below ``below``, a few at a time; where their requests stand is forgotten with them."""
        writes: list[Write] = []
        base = self._head.base
        while base < below and len(writes) < most * 2:
            certified = self.certified(base)
            if certified is not None:
                writes += [Delete(request_key(name)) for name in certified.block.request_hashes]
                writes.append(Delete(block_key(base)))
            base += 1
        if base == self._head.base:
            return ()
        return (*writes, *self._goes_to(replace(self._head, base=base)))

    def restored(self, checkpoint: Checkpoint, validators: ValidatorSet) -> tuple[Write, ...]:
        """Go on from a checkpoint whose state was laid down; ``validators`` decide the height after it."""
        header = checkpoint.header
        first = header.height + 1 if validators.epoch != header.epoch else 1
        view = 0 if validators.epoch != header.epoch else checkpoint.certificate.view
        return self._goes_to(
            HeadRecord(
                header.height, header.hash, header.time_ms, view, checkpoint.root, header.height + 1, first, validators, checkpoint.pending
            )
        )
