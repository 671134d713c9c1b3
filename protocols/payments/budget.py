"""What a node may spend and set aside: pure sums over how it stands with all its providers.

A day is one of UTC. What is set aside on a tab and not used yet counts against the limits like what was spent, so that no more can be
spent in a day than they say; what is owed already is paid, whatever day it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from meshos.protocols.payments.limits import IN_ALL_MICRO, MIN_RESERVE_MICRO, PER_PROVIDER_MICRO, RESERVED_CALLS
from meshos.protocols.payments.owing import Owing


@dataclass(frozen=True, slots=True)
class Budget:
    """What this node spends a day with one provider, and with all together."""

    per_provider_micro: int = PER_PROVIDER_MICRO
    in_all_micro: int = IN_ALL_MICRO

    def reserve(self, owing: Owing, owings: Iterable[Owing], *, promised: int, balance: int | None) -> int:
        """How much to set aside now for ``owing`` (its calls under way may cost ``promised``, the organisation has ``balance``, where that
        is known): enough for RESERVED_CALLS, never above a limit or what there is; 0: nothing.
        """
        all_ = list(owings)
        wanted = max(RESERVED_CALLS * owing.price, MIN_RESERVE_MICRO) + max(0, owing.owed + promised - owing.reserved)
        unused = {each.provider: max(0, each.reserved - each.owed) for each in all_}
        in_all = self.in_all_micro - sum(each.spent for each in all_) - sum(unused.values())
        left = min(self.per_provider_micro - owing.spent - unused[owing.provider], in_all)
        due = max(0, owing.owed - owing.reserved)
        return max(0, min(wanted, due + max(0, left), wanted if balance is None else balance))


USUAL = Budget()
"""What a node spends whose operator says nothing."""
