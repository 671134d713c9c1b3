"""What people may do mesh-wide (DESIGN.md, "People"): pause autonomy, and with 80 % of human power overrule the coordinators.

Any registered human key may pause autonomy: all together for at most ``pause_ms`` in any ``pause_window_ms`` (1 h in 24 h) of ledger
time, for the whole mesh. While it is paused, nothing autonomous is begun or executed; votes are still taken, and what was approved
meanwhile is executed when the pause ends, if it has not expired by then.

Human power is that of the seats in genesis, until governance moves them: a human chamber's points are divided among its seats, and a
chamber without seats (one that votes by token) has no part in it. Powers are kept as whole numbers: times the least common multiple of
the chambers' seats. All of it stands in the state under ``constitution``, which nothing changes.
"""

from math import lcm
from typing import ClassVar

from meshos import cbor
from meshos.consensus.ledger.agenda import DUE, Item, schedule
from meshos.consensus.ledger.audit import record
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import is_number, is_text, malformed
from meshos.consensus.ledger.keys import HUMAN, KEYS
from meshos.consensus.ledger.limits import DAY_MS, MAX_PAUSES
from meshos.consensus.ledger.packing import pack, unpack
from meshos.errors import Refused, busy
from meshos.genesis_content import Genesis
from meshos.values import frozen

PAUSE_ENDS = "pause"
"""On the agenda: what was approved during a pause can be executed."""


@frozen
class Constitution:
    """What genesis says of people and approvals. ``powers``: (human key, its power), in the order of the keys."""

    genesis_hash: bytes
    min_approvals: int
    override_percent: int
    timelock_ms: int
    pause_ms: int
    pause_window_ms: int
    powers: tuple[tuple[str, int], ...]


@frozen
class Pauses:
    """Autonomy is paused until ``until_ms``. ``past``: (from, to) of the pauses within the window that they are counted in."""

    until_ms: int = 0
    past: tuple[tuple[int, int], ...] = ()


def _decode(value: bytes) -> Constitution:
    genesis_hash, approvals, percent, timelock_ms, pause_ms, window_ms, powers = unpack(value)
    seats = tuple((key, power) for key, power in powers)
    return Constitution(genesis_hash, approvals, percent, timelock_ms, pause_ms, window_ms, seats)


CONSTITUTION = Table(
    b"constitution",
    lambda c: pack(c.genesis_hash, c.min_approvals, c.override_percent, c.timelock_ms, c.pause_ms, c.pause_window_ms, c.powers),
    _decode,
)
PAUSES = Table(
    b"pauses",
    lambda pauses: pack(pauses.until_ms, pauses.past),
    lambda value: Pauses(unpack(value)[0], tuple((begin, end) for begin, end in unpack(value)[1])),
)


def from_genesis(genesis: Genesis) -> Constitution:
    """What genesis says."""
    governance = genesis.governance
    human = {chamber.name: chamber.points for chamber in governance.chambers if chamber.human and chamber.weighting == "seat"}
    seats = [seat for seat in governance.seats if seat.chamber in human]
    count = {name: sum(1 for seat in seats if seat.chamber == name) for name in human}
    unit = lcm(*(seated for seated in count.values() if seated))
    powers: dict[str, int] = {}
    for seat in seats:
        powers[seat.key] = powers.get(seat.key, 0) + human[seat.chamber] * unit // count[seat.chamber]
    return Constitution(
        genesis.hash,
        governance.min_approvals,
        governance.override_percent,
        governance.timelock_ms,
        governance.pause_ms,
        governance.pause_window_ms,
        tuple(sorted(powers.items())),
    )


def constitution(draft: Draft) -> Constitution:
    """The whole of it."""
    found = draft.read(CONSTITUTION, b"")
    assert found is not None
    return found


def power(draft: Draft, key: str) -> int:
    """The power of a human key; 0 without a seat."""
    return dict(constitution(draft).powers).get(key, 0)


def overrule(draft: Draft, keys: tuple[str, ...]) -> bool:
    """Whether these keys have what it takes, together; those that their organisations have removed meanwhile have nothing."""
    now = constitution(draft)
    powers = dict(now.powers)
    held = sum(powers.get(key, 0) for key in keys if (found := draft.read(KEYS, key)) is not None and found.role == HUMAN)
    return held > 0 and held * 100 >= now.override_percent * sum(powers.values())


def pauses(draft: Draft) -> Pauses:
    """Since when and until when."""
    return draft.read(PAUSES, b"") or Pauses()


def paused(draft: Draft) -> bool:
    """Whether autonomy is paused now."""
    return pauses(draft).until_ms > draft.time_ms


@frozen
class Pause(Body):
    """A person pauses autonomy for ``for_ms``, from now or from the end of the present pause on."""

    KIND: ClassVar[str] = "pause"

    for_ms: int
    reason: str

    @classmethod
    def read(cls, value: cbor.Value) -> "Pause":
        """From ``[for_ms, reason]``; raises Refused ``transaction-malformed``."""
        match value:
            case [for_ms, reason] if is_number(for_ms, 1_000, 366 * DAY_MS) and is_text(reason):
                return cls(for_ms, reason)
        raise malformed("pause of at least a second, with a reason")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.for_ms, self.reason]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``pause-used-up`` or ``busy``."""
        now, limits = pauses(draft), constitution(draft)
        begin = max(draft.time_ms, now.until_ms)
        end = begin + self.for_ms
        # No window has more of pauses in it than the one that ends with the last: moving it back or on can only lose some of that.
        past = tuple(one for one in now.past if one[1] > end - limits.pause_window_ms)
        used = sum(to - max(since, end - limits.pause_window_ms) for since, to in past)
        if used + self.for_ms > limits.pause_ms:
            left = max(0, limits.pause_ms - used)
            raise Refused("pause-used-up", f"autonomy may be paused for {left} ms more within {limits.pause_window_ms} ms")
        if len(past) >= MAX_PAUSES:
            raise busy("the list of pauses")
        draft.write(PAUSES, b"", Pauses(end, (*past, (begin, end))))
        schedule(draft, DUE, Item(end, PAUSE_ENDS, b""))
        record(draft, by.key, self.KIND, f"until {end}", self.reason)
