"""Decisions in memory: two approvals execute one. What was proposed and judged is in ``found``."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshos.errors import Refused
from meshos.node.api.shapes import Json

ORG = "did:mesh:enterprise:alpha"
NOW_MS = 1_764_000_000_000


@dataclass
class MemoryDecisions:
    """The API's ``DecisionService``."""

    found: dict[str, dict[str, object]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    async def approvals(self, *, open_only: bool) -> Json:
        rows = [one for one in self.found.values() if one["state"] == "open" or not open_only]
        shown = {"threshold": 25, "coordinators": [ORG], "pausedUntil_ms": None, "height": 1, "time_ms": NOW_MS}
        return {"approvals": rows, **shown}

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
