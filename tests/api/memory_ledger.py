"""A ledger in memory: balances, decisions of which two approvals execute one, motions that two votes carry."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshos.errors import BadInput, Refused, Unreachable
from meshos.node.api.shapes import Json, LedgerHead, RoomQuote

ORG = "did:mesh:enterprise:alpha"
NODE = "12D3KooWHQR1hWE46uNwHQR1hWE46uNwHQR1hWE46uNwHQR1hWE4"
NOW_MS = 1_764_000_000_000


def _tab(id_: str, caller: str) -> Json:
    sums = {"reserved_micro": 10_000_000, "redeemed_micro": 2_500_000}
    return {"tab": id_, "caller": caller, "org": ORG, "provider": "did:mesh:enterprise:beta", **sums, "closes_ms": None}


@dataclass
class MemoryLedger:
    """A ledger of balances: what is asked of it is in ``moved`` and ``submitted``."""

    balances: dict[str, int] = field(default_factory=lambda: {ORG: 10_000_000})
    moved: dict[str, tuple[str, int]] = field(default_factory=dict)
    submitted: list[bytes] = field(default_factory=list)
    silent: bool = False
    tabs: list[Json] = field(default_factory=lambda: [_tab("ab" * 32, NODE), _tab("cd" * 32, "12D3KooWlost")])

    async def head(self) -> LedgerHead:
        return LedgerHead(len(self.moved), "ab" * 32, "cd" * 32, 1_764_000_000_000, 0, 0, "alpha-1", 4, 3, True, "", 0, 0)

    async def block(self, height: int) -> Json:
        if height > len(self.moved):
            raise Refused("no-such-block", f"there is no block {height}")
        tx = {
            "txId": "ef" * 32,
            "kind": "transfer",
            "key": "k",
            "nonce": 0,
            "expires_ms": 1_764_000_060_000,
            "outcome": "committed",
            "refusal": None,
        }
        return {"height": height, "time_ms": 1_764_000_000_000, "signedBy": [ORG], "transactions": [tx]}

    async def account(self, did: str) -> Json:
        if did not in self.balances:
            raise Refused("no-such-account", f"there is no account of {did}")
        return {"did": did, "balance_micro": self.balances[did], "open": True, "height": 0, "tabs": self.tabs if did == ORG else []}

    async def knows(self, key: str) -> bool:
        return key in self.moved

    async def transfer(self, to: str, micro: int, key: str, timeout_s: float) -> Json:
        if self.balances[ORG] < micro:
            raise Refused("insufficient-funds", "there is not so much")
        if key not in self.moved:
            self.balances[ORG] -= micro
        self.moved[key] = (to, micro)
        if self.silent:
            raise Unreachable("unknown-yet", "it has not said")
        return {"txId": "ef" * 32, "height": len(self.moved), "outcome": "committed"}

    async def submit(self, request: bytes, timeout_s: float) -> Json:
        self.submitted.append(request)
        return {"txId": "ef" * 32, "height": 1, "outcome": "committed"}

    async def transaction(self, text: str) -> Json:
        raise Refused("no-such-transaction", f"there is no {text}")

    async def key(self, name: str) -> Json:
        if name == "nobody":
            raise Refused("no-such-ledger-key", f"there is no {name}")
        known = {"role": "human", "org": ORG, "name": "Ada", "nonce": 7, "genesis": "ab" * 32, "height": 1}
        return {"key": name, **known, "time_ms": 1_764_000_000_000}

    async def org(self, did: str) -> Json:
        if did not in self.balances:
            raise Refused("no-such-org", f"there is no organisation {did}")
        seat = {"node_id": NODE, "validator": "z6MkValidator"}
        keys = {"root": "z6MkRoot", "nodes": [{"node_id": NODE, "name": "alpha-1"}], "people": [{"key": "z6MkPerson", "name": "Ada"}]}
        counts = {"moves": 2, "suspended": False, "tabs": 2, "height": 1}
        times = {"joined_ms": None, "left_ms": None, "time_ms": NOW_MS}
        return {"did": did, **keys, "seat": seat, "votes": NODE, **counts, **times}

    async def close_tab(self, text: str) -> Json:
        if not ("ab" * 32).startswith(text):
            raise Refused("tab-not-open", f"there is no open tab {text}")
        sums = {"reserved_micro": 10_000_000, "redeemed_micro": 2_500_000}
        return {"tab": "ab" * 32, "provider": "did:mesh:enterprise:beta", **sums, "closes_ms": NOW_MS, "changed": True}

    async def proof(self, key: str) -> bytes:
        return key.encode()


@dataclass
class MemoryRooms:
    """The API's ``RoomService``: a MESH for a record, whatever the days: what is rented in ``rented``, and after it in ``later``."""

    rented: int = 0
    later: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    held: int = 3

    async def room(self, did: str) -> Json:
        if did != ORG:
            raise BadInput("bad-did", f"there is no {did}")
        said = {"did": did, "held": self.held, **self._now(), "most": 10_000}
        return {**said, "price_micro": 1_000_000, "priceDays": 30, "height": 1, "time_ms": NOW_MS}

    async def quote(self, records: int, days: int) -> RoomQuote:
        if days > 60:
            raise Refused("rent-out-of-bounds", "that is too long")
        had = self.rented if days <= 30 else self.later
        return RoomQuote(records, 20_000 + days, max(0, records - had) * 1_000_000)

    async def rent(self, quote: RoomQuote, key: str, timeout_s: float) -> Json:
        if self.silent:
            raise Unreachable("unknown-yet", "it has not said")
        longer = quote.day > 20_030
        until_ms = NOW_MS + longer * 30 * 86_400_000
        said = {"records": quote.records, "until_ms": until_ms, "paid_micro": quote.micro, "height": 1}
        if not quote.micro:
            return {"txId": None, "outcome": "unchanged", **said, **self._now(), "added": 0}
        before, self.keys[key] = self.rented, quote.micro
        if longer:
            self.later = quote.records
        self.rented = max(self.rented, quote.records)
        return {"txId": "ef" * 32, "outcome": "committed", **said, **self._now(), "added": self.rented - before}

    def _now(self) -> Json:
        steps = ((self.rented, NOW_MS), (self.later, NOW_MS + 30 * 86_400_000))
        return {"room": 2 + self.rented, "free": 2, "rented": [{"records": had, "until_ms": until} for had, until in steps if had]}


@dataclass
class MemoryDecisions:
    """The API's ``DecisionService``: what was proposed and judged is in ``found``."""

    found: dict[str, dict[str, object]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    async def approvals(self, *, open_only: bool) -> Json:
        rows = [one for one in self.found.values() if one["state"] == "open" or not open_only]
        shown = {"threshold": 25, "coordinators": [ORG], "pausedUntil_ms": None, "height": 1, "time_ms": NOW_MS}
        return {"approvals": rows, **shown}

    async def quarantine(self, after: str) -> Json:
        done = sorted(str(one["action"]["quarantine"]) for one in self.found.values() if one["state"] == "executed")  # type: ignore[index]
        rows = [{"id": id_, "kind": "organisation", "since_ms": NOW_MS, "settled": True} for id_ in done if id_ > after]
        return {"quarantined": rows[:1], "more": len(rows) > 1, "height": 1, "time_ms": NOW_MS}

    async def approval(self, text: str) -> Json:
        found = [one for id_, one in self.found.items() if id_.startswith(text)]
        if not found:
            raise Refused("no-such-decision", f"there is no {text}")
        return {**found[0], "trail": [{"time_ms": NOW_MS, "by": ORG, "what": "proposed", "why": "x", "height": 1}], "time_ms": NOW_MS} | {
            "pausedUntil_ms": None
        }

    async def propose(self, action: Sequence[object], reason: str, key: str, timeout_s: float) -> Json:
        id_ = self.keys.setdefault(key, f"{len(self.found) + 1:02x}" * 32)
        kind, what = action
        self.found.setdefault(
            id_,
            {
                "id": id_,
                "action": {str(kind): what},
                "risk": 90,
                "state": "open",
                "by": ORG,
                "approvedBy": [ORG],
                "rejectedBy": [],
                "approvals": 1,
                "needed": 2,
                "people": [],
                "reason": reason,
                "expires_ms": NOW_MS + 900_000,
                "ended_ms": None,
            },
        )
        return {**await self.approval(id_), "txId": "ef" * 32, "height": 1}

    async def judge(self, text: str, act: str, reason: str, key: str, timeout_s: float) -> Json:
        id_ = str((await self.approval(text))["id"])
        self.found[id_] |= {"state": "executed" if act == "approve" else "rejected", "expires_ms": None, "ended_ms": NOW_MS}
        return {**await self.approval(id_), "txId": "ef" * 32, "height": 2}


@dataclass
class MemoryProposals:
    """The API's ``ProposalService``: what was moved and voted is in ``found``."""

    found: dict[str, dict[str, object]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    async def proposals(self, *, open_only: bool) -> Json:
        rows = [one for one in self.found.values() if one["state"] == "open" or not open_only]
        return {"proposals": rows, "seats": 4, "needed": 3, "height": 1, "time_ms": NOW_MS}

    async def proposal(self, text: str) -> Json:
        found = [one for id_, one in self.found.items() if id_.startswith(text)]
        if not found:
            raise Refused("no-such-proposal", f"there is no {text}")
        moved = {"time_ms": NOW_MS, "by": ORG, "who": "alpha", "what": "moved", "why": found[0]["what"], "height": 1}
        return {**found[0], "trail": [moved], "time_ms": NOW_MS}

    async def move(self, kind: str, what: object, key: str, timeout_s: float) -> Json:
        id_ = self.keys.setdefault(key, f"{len(self.found) + 0xA1:02x}" * 32)
        self.found.setdefault(
            id_,
            {
                "id": id_,
                "motion": {kind: what},
                "what": f"{kind} {what}",
                "state": "open",
                "by": ORG,
                "votedFor": [ORG],
                "votedAgainst": [],
                "for": 1,
                "against": 0,
                "needed": 3,
                "blocking": 2,
                "seats": 4,
                "waitsFor": [f"did:mesh:enterprise:{name}" for name in ("beta", "delta", "gamma")],
                "expires_ms": NOW_MS + 259_200_000,
                "ended_ms": None,
            },
        )
        return {**await self.proposal(id_), "txId": "ef" * 32, "height": 1}

    async def vote(self, text: str, choice: str, key: str, timeout_s: float) -> Json:
        id_ = str((await self.proposal(text))["id"])
        if choice == "abstain":
            raise Refused("not-yet", "there is no abstention", hint="later")
        gone = {"motion": None, "needed": None, "blocking": None, "seats": None, "waitsFor": [], "expires_ms": None}
        self.found[id_] |= gone | {"state": "carried" if choice == "for" else "rejected", "ended_ms": NOW_MS}
        return {**await self.proposal(id_), "txId": "ef" * 32, "height": 2}
