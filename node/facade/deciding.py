"""Autonomous decisions for the API: what waits for approval, and proposing, approving and rejecting in the name of this organisation.

What it says is tried before it is sent (``voice.py``).
"""

import re
import time
from collections.abc import Sequence
from typing import cast

from meshos import cbor
from meshos.consensus.ledger import queries
from meshos.consensus.ledger.approvals import ACTS, OPEN, Judge, Propose, decision_id
from meshos.consensus.ledger.fields import is_text
from meshos.consensus.ledger.limits import MAX_REASON_BYTES
from meshos.consensus.ledger.parameters import in_force
from meshos.errors import BadInput, MeshError, Refused
from meshos.ids import NodeId
from meshos.node.api import shapes
from meshos.node.facade import explaining
from meshos.node.facade.ledger import LedgerDesk
from meshos.node.facade.voice import TRAIL, Voice
from meshos.node.meant import LOOKED_FOR, is_beginning, only
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.ledger.quarantine import kind_of

SHOWN = 200
"""Ended decisions in a list; the open ones are all in it. And who is in quarantine."""
_ID = re.compile(r"[0-9a-f]{8,64}")


class DecisionDesk:
    """The part of the facade that has to do with decisions. ``me`` is this node."""

    def __init__(self, me: NodeId, window: LedgerView, desk: LedgerDesk, genesis_hash: bytes) -> None:
        self._window = window
        self._voice = Voice(me, window, desk)
        self._genesis_hash = genesis_hash

    async def approvals(self, *, open_only: bool) -> shapes.Json:
        """The decisions that wait, oldest first, then those that have ended, newest first."""
        window = self._window
        self._voice.check_ready()
        found = [*queries.open_decisions(window), *([] if open_only else queries.ended_decisions(window, SHOWN))]
        reasons = self._reasons({one.id.hex() for one in found}) if found else {}
        judging, threshold = queries.judging(window), in_force(window)["risk-threshold"]
        return {
            "approvals": [self._view(one, judging, threshold) | {"reason": reasons.get(one.id.hex())} for one in found],
            "threshold": threshold,
            "coordinators": queries.coordinators(window),
            "pausedUntil_ms": self._paused_until(),
            "height": window.height,
            "time_ms": window.time_ms,
        }

    async def quarantine(self, after: str) -> shapes.Json:
        """Who is in quarantine, those after ``after``: since when, and whether several have decided so. At most SHOWN at a time."""
        self._voice.check_ready()
        found = queries.quarantined(self._window, SHOWN + 1, after)
        rows = [{"id": id_, "kind": kind_of(id_), "since_ms": since_ms, "settled": settled} for id_, since_ms, settled in found[:SHOWN]]
        more = len(found) > SHOWN
        return {"quarantined": rows, "more": more, "height": self._window.height, "time_ms": self._window.time_ms}

    async def approval(self, text: str) -> shapes.Json:
        """One decision, by its id or how that begins, and what was done about it; raises BadInput ``ambiguous-id``, Refused
        ``no-such-decision``.
        """
        return self._whole(self._found(text))

    async def propose(self, action: Sequence[object], reason: str, key: str, timeout_s: float) -> shapes.Json:
        """Propose an action in the name of this organisation, and approve it: once for one ``key``. Gives the decision as it is then.

        Raises Refused as ``Propose.apply``, and as ``LedgerDesk.send``.
        """
        self._voice.check_ready()
        _check_reason(reason)
        body = Propose.read([cast(list[cbor.Value], list(action)), reason])  # JSON has no value that CBOR has not
        done = await self._voice.send(body, f"propose/{key}", timeout_s)
        return {**self._whole(decision_id(self._genesis_hash, done.id)), "txId": done.id.hex(), "height": done.height}

    async def judge(self, text: str, act: str, reason: str, key: str, timeout_s: float) -> shapes.Json:
        """Approve or reject a decision in the name of this organisation; as ``propose``, and raises as ``Judge.apply``."""
        assert act in ACTS
        _check_reason(reason)
        id_ = self._found(text)
        body = Judge.read([id_, act, reason])
        done = await self._voice.send(body, f"{act}/{id_.hex()}/{key}", timeout_s)
        return {**self._whole(id_), "txId": done.id.hex(), "height": done.height}

    async def explained(self, text: str) -> shapes.Explanation | None:
        """Why a decision is as it is; None for what is no decision's id, nor the beginning of one."""
        if not _ID.fullmatch(text):
            return None
        try:
            return explaining.decision(await self.approval(text))
        except MeshError as error:
            if error.name not in ("no-such-decision", "not-ready"):
                raise
            return None

    def waiting(self) -> int:
        """How many decisions wait for approval."""
        return queries.waiting(self._window) if self._window.height else 0

    def paused_until(self) -> int | None:
        """Until when people have paused autonomy, if it is paused now: in a quiet mesh no block has said yet that it is over."""
        until = self._paused_until() if self._window.height else None
        return until if until is not None and until > time.time() * 1000 else None

    # -- parts -------------------------------------------------------------------------------------------------------

    def _found(self, text: str) -> bytes:
        self._voice.check_ready()
        if not is_beginning(text, 4):
            raise BadInput("bad-decision-id", f"{text[:70]!r} is no decision's id", hint="it is 64 hex digits; see `mesh approvals --all`")
        found = queries.decisions_beginning(self._window, text, LOOKED_FOR)
        hint = "see `mesh approvals --all`; those that ended long ago are forgotten"
        none = Refused("no-such-decision", f"this node knows no decision {text[:16]}", hint=hint)
        return bytes.fromhex(only(text, (id_.hex() for id_ in found), none, shown_chars=16))

    def _whole(self, id_: bytes) -> dict[str, object]:
        found = queries.decision(self._window, id_)
        if found is None:
            raise Refused("decision-unknown", "there is no decision with this id any more")
        hexed = id_.hex()
        trail = [entry for entry in queries.audit(self._window, TRAIL) if entry.subject == hexed]
        reason = next((entry.why for entry in trail if entry.what == "proposed"), None)
        judging, threshold = queries.judging(self._window), in_force(self._window)["risk-threshold"]
        return self._view(found, judging, threshold) | {
            "reason": reason,
            "trail": self._voice.trail(reversed(trail)),
            "pausedUntil_ms": self._paused_until(),
            "time_ms": self._window.time_ms,
        }

    def _view(self, one: queries.Waiting, judging: set[str], threshold: int) -> dict[str, object]:
        """``judging``: whose approvals count while it is open; it is the same for all, and some work to find out."""
        decision = one.decision
        kind, subject, *_ = decision.action.fields()
        return {
            "id": one.id.hex(),
            "action": {str(kind): subject},
            "risk": decision.risk,
            "state": decision.status,
            "by": decision.by,
            "approvedBy": list(decision.approved),
            "rejectedBy": list(decision.rejected),
            "approvals": len(judging.intersection(decision.approved) if decision.status == OPEN else decision.approved),
            "needed": one.needed if decision.risk > threshold or decision.status == OPEN else 0,
            "people": self._people(decision.people),
            "expires_ms": decision.expires_ms if decision.status == OPEN else None,
            "ended_ms": decision.ended_ms or None,
        }

    def _people(self, said: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
        """What people want of the decision as it is now, with what share of human power; 80 % (of genesis) get it."""
        found = []
        for act in ACTS:
            keys = [key for key, what in said if what == act]
            if keys:
                needed = queries.constitution(self._window).override_percent
                names = [self._voice.who(key) for key in keys]
                found.append({"act": act, "by": names, "percent": queries.power_of(self._window, keys), "needed": needed})
        return found

    def _reasons(self, ids: set[str]) -> dict[str, str]:
        """Why each of these was proposed, as far as the newest part of the audit trail says."""
        entries = queries.audit(self._window, TRAIL)
        return {entry.subject: entry.why for entry in entries if entry.what == "proposed" and entry.subject in ids}

    def _paused_until(self) -> int | None:
        until = queries.paused_until(self._window)
        return until if until > self._window.time_ms else None


def _check_reason(reason: str) -> None:
    if not is_text(reason):
        raise BadInput("bad-reason", f"a reason is one line of at most {MAX_REASON_BYTES} bytes that says something")
