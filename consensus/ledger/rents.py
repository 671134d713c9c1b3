"""Rents: what an organisation pays for room in the directory beyond the records that everybody has for nothing.

Where ``directory-record-price`` is above zero, an organisation has room for ``directory-free-records`` and for what it has rented. A rent
says absolutely what is wanted, room for so many records until the end of a day (UTC, of ledger time), and costs what is not paid for yet:
for each record and day, the day that has begun included, a thirtieth of the price; the sum is rounded up. So the same rent again costs
nothing; more records cost the difference for the days that are left; fewer, until later, come after what was paid for. Nothing is refunded.

The money goes back to what is not issued: to nobody. Whoever got it could give it back, and have others rent for less, or for nothing.
"""

from typing import ClassVar, TypeAlias

from meshos import cbor
from meshos.consensus.ledger.accounts import take, withdraw_from_circulation
from meshos.consensus.ledger.agenda import DUE, Item, cancel, schedule
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.fields import amount, is_number, malformed
from meshos.consensus.ledger.limits import DAY_MS, MAX_RENT_DAYS, RENT_DAYS
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.parameters import Parameters, in_force, parameters
from meshos.errors import Refused
from meshos.storage.store import View
from meshos.values import frozen

ENDS = "rent"
"""On the agenda: the end of the first step of an organisation's rent."""

Steps: TypeAlias = tuple[tuple[int, int], ...]
"""(records, the last day that they are paid for, counted from 1 January 1970): the days rising, the records falling."""

RENTS: Table[Steps] = Table(b"rent/", lambda steps: pack(*steps), lambda value: tuple((records, day) for records, day in unpack(value)))
"""By the organisation's DID."""


@frozen
class Rent(Body):
    """The sender's organisation has room for ``records`` beyond the free ones until the end of ``day``; it pays at most ``most_micro``."""

    KIND: ClassVar[str] = "rent"

    records: int
    day: int
    most_micro: int

    @classmethod
    def read(cls, value: cbor.Value) -> "Rent":
        """From ``[records, day, most]``; raises Refused ``transaction-malformed`` or ``amount-out-of-bounds``."""
        match value:
            case [records, day, most] if is_number(records, 1) and is_number(day):
                return cls(records, day, amount(most))
        raise malformed("rent of room for records")

    def fields(self) -> list[object]:
        """As ``read`` takes it."""
        return [self.records, self.day, self.most_micro]

    def apply(self, draft: Draft, by: Sender) -> None:
        """Raises Refused ``rent-not-needed``, ``rent-out-of-bounds``, ``rent-dearer`` or ``insufficient-funds``."""
        before = draft.read(RENTS, by.org) or ()
        after, micro = rent(parameters(draft), before, self.records, self.day, draft.time_ms)
        if micro > self.most_micro:
            raise Refused("rent-dearer", f"this room costs {micro} millionths, and at most {self.most_micro} were to be paid")
        if not micro:
            return  # all of it is paid for
        take(draft, by.org, micro)
        withdraw_from_circulation(draft, micro)
        if before:
            cancel(draft, DUE, Item(_end_ms(before), ENDS, by.org.encode()))
        _write(draft, by.org, after)


def rent(now: Parameters, before: Steps, records: int, day: int, time_ms: int) -> tuple[Steps, int]:
    """What is paid for if whoever had ``before`` rents room for ``records`` until the end of ``day``, and what that costs, in millionths.

    Raises Refused ``rent-not-needed`` or ``rent-out-of-bounds``.
    """
    if not limited(now):
        raise Refused("rent-not-needed", "room for records is not limited by what is paid for")
    today, most = time_ms // DAY_MS, now["directory-max-records-per-org"] - now["directory-free-records"]
    if records > most:
        raise Refused("rent-out-of-bounds", f"an organisation may have {most} records beyond the free ones, not {records}")
    if not today <= day < today + MAX_RENT_DAYS:
        raise Refused(
            "rent-out-of-bounds", f"room is paid for at most {MAX_RENT_DAYS} days from today, day {today}, on; not until day {day}"
        )
    running = _running(before, today)
    after = _raised(running, records, day)
    added = _record_days(after, today) - _record_days(running, today)
    return after, -(-added * now["directory-record-price"] // RENT_DAYS)


def rented(steps: Steps, time_ms: int) -> int:
    """For how many records beyond the free ones there is room at ``time_ms``."""
    running = _running(steps, time_ms // DAY_MS)
    return running[0][0] if running else 0


def limited(now: Parameters) -> bool:
    """Whether how many records an organisation may have hangs on what it pays."""
    return now["directory-record-price"] > 0 and now["directory-free-records"] < now["directory-max-records-per-org"]


def room(view: View, org: str, time_ms: int) -> int | None:
    """For how many records ``org`` has room at ``time_ms``, the free ones included. None: that is not limited by what it pays."""
    now = in_force(view)
    return now["directory-free-records"] + rented(RENTS.read(view, org) or (), time_ms) if limited(now) else None


def end_step(draft: Draft, id_: bytes) -> None:
    """A day is over until which something was paid for."""
    org = id_.decode()
    steps = draft.read(RENTS, org)
    assert steps is not None
    _write(draft, org, _running(steps, draft.time_ms // DAY_MS))


def _write(draft: Draft, org: str, steps: Steps) -> None:
    draft.write(RENTS, org, steps or None)
    if steps:
        schedule(draft, DUE, Item(_end_ms(steps), ENDS, org.encode()))


def _end_ms(steps: Steps) -> int:
    """When the day of the first step is over."""
    return (steps[0][1] + 1) * DAY_MS


def _running(steps: Steps, today: int) -> Steps:
    return tuple(step for step in steps if step[1] >= today)


def _raised(steps: Steps, records: int, day: int) -> Steps:
    """``steps`` with at least ``records`` until ``day``."""
    if any(had >= records and last >= day for had, last in steps):
        return steps
    higher = tuple((had, last) for had, last in steps if had > records)
    later = tuple((had, last) for had, last in steps if last > day)
    return (*higher, (records, day), *later)


def _record_days(steps: Steps, today: int) -> int:
    """How many records for how many days are paid for, from ``today`` on; none of the steps is over."""
    begins = (today, *(last + 1 for _, last in steps))
    return sum(records * (last + 1 - begin) for (records, last), begin in zip(steps, begins, strict=False))
