"""Vouchers on their way to a signature: signed once in a life, for all who ask meanwhile."""

from dataclasses import dataclass

from meshos.consensus.ledger.tabs import voucher as payload
from meshos.effects import Completed, Ok, Persist, Sign, Signed, Tell
from meshos.ids import OrgDid
from meshos.protocols.payments.commands import PAYING
from meshos.protocols.payments.owing import Owing
from meshos.protocols.payments.voucher import Voucher, voucher_domain

_Asker = tuple[str, int]


@dataclass(slots=True)
class _Signing:
    """A voucher that is being signed, and who waits for it."""

    provider: OrgDid
    tab: bytes
    micro: int
    askers: list[_Asker]


class Vouchers:
    """Of the machine "paying"; each method gives that machine's effects."""

    def __init__(self, genesis_hash: bytes) -> None:
        self._domain = voucher_domain(genesis_hash)
        self._last: dict[OrgDid, Voucher] = {}
        self._signing: dict[int, _Signing] = {}
        self._ops = 0

    def ask(self, asker: _Asker, owing: Owing | None) -> list[object]:
        """Answer with the voucher over all that is owed and covered, or None. A new one is durable before it is signed."""
        micro = 0 if owing is None else owing.payable
        if owing is None or not micro:
            return [Tell(asker[0], Completed(asker[1], Ok(None)))]
        last = self._last.get(owing.provider)
        if last is not None and (last.tab, last.micro) == (owing.tab, micro):
            return [Tell(asker[0], Completed(asker[1], Ok(last)))]
        for signing in self._signing.values():
            if (signing.tab, signing.micro) == (owing.tab, micro):
                signing.askers.append(asker)
                return []
        effects: list[object] = []
        if micro > owing.signed:
            owing.signed = micro
            effects.append(Persist((owing.write(),)))
        self._ops += 1
        self._signing[self._ops] = _Signing(owing.provider, owing.tab, micro, [asker])
        return [*effects, Sign(PAYING, self._ops, self._domain, payload(owing.tab, micro))]

    def signed(self, event: Signed) -> list[object]:
        """Tell who waits."""
        signing = self._signing.pop(event.op)
        voucher = Voucher(signing.tab, signing.micro, event.signature)
        last = self._last.get(signing.provider)
        if last is None or last.tab != voucher.tab or last.micro < voucher.micro:
            self._last[signing.provider] = voucher
        return [Tell(machine, Completed(op, Ok(voucher))) for machine, op in signing.askers]
