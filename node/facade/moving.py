"""Motions for the API: what the voting organisations decide, and moving and voting in the name of this organisation.

An open motion stands in the ledger's state. Of one that has ended only the audit trail tells: who moved what, who voted how, how it
ended. What this organisation says is tried before it is sent (``voice.py``).
"""

import re
from collections.abc import Mapping
from typing import cast

from meshos import cbor
from meshos.consensus.ledger import queries
from meshos.consensus.ledger.audit import Entry
from meshos.consensus.ledger.expelling import Expel
from meshos.consensus.ledger.motions import (
    ENDS,
    MOTIONS,
    MOVED,
    VOTED_AGAINST,
    VOTED_FOR,
    Admit,
    Configure,
    Entitle,
    Motion,
    Move,
    Reinstate,
    Subject,
    Upgrade,
    Vote,
    motion_id,
)
from meshos.consensus.ledger.parameters import read_changes
from meshos.errors import BadInput, MeshError, Refused
from meshos.ids import NodeId
from meshos.node import applying
from meshos.node.api import shapes
from meshos.node.facade import explaining
from meshos.node.facade.ledger import LedgerDesk, read_did
from meshos.node.facade.voice import TRAIL, Voice
from meshos.node.meant import is_beginning, only
from meshos.protocols.ledger.port import LedgerView

OPEN = "open"
_ID = re.compile(r"[0-9a-f]{8,64}")
_SAID = (MOVED, VOTED_FOR, VOTED_AGAINST, *ENDS)


class MotionDesk:
    """The part of the facade that has to do with motions. ``me`` is this node."""

    def __init__(self, me: NodeId, window: LedgerView, desk: LedgerDesk, genesis_hash: bytes) -> None:
        self._window = window
        self._voice = Voice(me, window, desk)
        self._genesis_hash = genesis_hash

    def check_ready(self) -> None:
        """Raise Unreachable ``not-ready`` while the ledger's state is being fetched."""
        self._voice.check_ready()

    async def proposals(self, *, open_only: bool) -> shapes.Json:
        """The motions that wait for votes, those that end first before the others; then those that have ended, newest first."""
        self._voice.check_ready()
        found = sorted(queries.motions(self._window), key=lambda one: (one[1].expires_ms, one[0]))
        rows = [self._view(id_.hex(), motion) for id_, motion in found]
        if not open_only:
            rows += [ended for trail in self._trails().values() if (ended := _ended(trail)) is not None]
        seats = queries.seats(self._window)
        about = {"seats": len(seats.entries), "needed": seats.q, "height": self._window.height, "time_ms": self._window.time_ms}
        return {"proposals": rows, **about}

    async def proposal(self, text: str) -> shapes.Json:
        """One motion, by its id or how that begins, and what was done about it; raises BadInput ``bad-proposal-id`` or ``ambiguous-id``,
        Refused ``no-such-proposal``.
        """
        return self._whole(*self._found(text))

    async def move(self, kind: str, what: object, key: str, timeout_s: float) -> shapes.Json:
        """Move something in the name of this organisation, which is for it: once for one ``key``. Gives the motion as it is then.

        Raises as ``_subject``, Refused as ``Move.apply``, and as ``LedgerDesk.send``.
        """
        self._voice.check_ready()
        subject = _subject(kind, what, self._genesis_hash)
        done = await self._voice.send(Move(subject), f"move/{key}", timeout_s)
        return self._whole(motion_id(done.id).hex()) | {"txId": done.id.hex(), "height": done.height}

    async def vote(self, text: str, choice: str, key: str, timeout_s: float) -> shapes.Json:
        """Vote in the name of this organisation; as ``move``, and raises as ``proposal``, as ``Vote.apply``, and Refused ``not-yet`` for an
        abstention.
        """
        id_, _ = self._found(text)
        if choice == "abstain":
            hint = "without a vote of yours it ends as the others decide; abstentions count with governance"
            raise Refused("not-yet", "the ledger knows no abstention from a motion: nothing was sent", hint=hint)
        in_favour = choice == "for"
        motion = MOTIONS.read(self._window, bytes.fromhex(id_))
        if in_favour and motion is not None and isinstance(motion.subject, Admit):
            applying.check_certificate(motion.subject)  # whoever moved it may not have looked
        done = await self._voice.send(Vote(bytes.fromhex(id_), in_favour), f"vote/{choice}/{id_}/{key}", timeout_s)
        return self._whole(id_) | {"txId": done.id.hex(), "height": done.height}

    async def explained(self, text: str) -> shapes.Explanation | None:
        """Why a motion is as it is; None for what is no motion's id, nor the beginning of one."""
        if not _ID.fullmatch(text):
            return None
        try:
            return explaining.motion(await self.proposal(text))
        except MeshError as error:
            if error.name not in ("no-such-proposal", "not-ready"):
                raise
            return None

    def waiting(self) -> int:
        """How many motions wait for the vote of this organisation."""
        if not self._window.height:
            return 0
        voting, org = self._voting(), self._voice.org
        return sum(org in voting.difference(one.in_favour, one.against) for _, one in queries.motions(self._window))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _found(self, text: str) -> tuple[str, list[Entry]]:
        """The id, as 64 hex digits, and what the audit trail says of it, newest first."""
        self._voice.check_ready()
        if not is_beginning(text, 4):
            raise BadInput("bad-proposal-id", f"{text[:70]!r} is no motion's id", hint="it is 64 hex digits; see `mesh proposals --all`")
        trails = self._trails()
        known = {id_.hex() for id_, _ in queries.motions(self._window)} | trails.keys()
        hint = "see `mesh proposals --all`; those that ended long ago are forgotten"
        none = Refused("no-such-proposal", f"this node knows no motion {text[:16]}", hint=hint)
        id_ = only(text, (one for one in known if one.startswith(text)), none, shown_chars=16)
        return id_, trails.get(id_, [])

    def _trails(self) -> dict[str, list[Entry]]:
        """What the newest part of the audit trail says of each motion, newest first; the one that was spoken of last comes first."""
        trails: dict[str, list[Entry]] = {}
        for entry in queries.audit(self._window, TRAIL):
            if entry.what in _SAID:
                trails.setdefault(entry.subject, []).append(entry)
        return trails

    def _whole(self, id_: str, trail: list[Entry] | None = None) -> dict[str, object]:
        trail = self._trails().get(id_, []) if trail is None else trail
        motion = MOTIONS.read(self._window, bytes.fromhex(id_))
        view = _ended(trail) if motion is None else self._view(id_, motion)
        if view is None:
            raise Refused("no-such-proposal", f"this node's ledger does not know any more how {id_[:16]} ended", outcome="unknown")
        return view | {"trail": self._voice.trail(reversed(trail)), "time_ms": self._window.time_ms}

    def _voting(self) -> set[str]:
        return {entry.org for entry in queries.seats(self._window).entries if not entry.suspended}

    def _view(self, id_: str, motion: Motion) -> dict[str, object]:
        seats, voting = queries.seats(self._window), self._voting()
        return {
            "id": id_,
            "motion": _fields(motion.subject),
            "what": motion.subject.words(),
            "state": OPEN,
            "by": motion.by,
            "votedFor": list(motion.in_favour),
            "votedAgainst": list(motion.against),
            "for": len(voting.intersection(motion.in_favour)),
            "against": len(voting.intersection(motion.against)),
            "needed": seats.q,
            "blocking": len(seats.entries) - seats.q + 1,
            "seats": len(seats.entries),
            "waitsFor": sorted(voting.difference(motion.in_favour, motion.against)),
            "expires_ms": motion.expires_ms,
            "ended_ms": None,
        }


def _ended(trail: list[Entry]) -> dict[str, object] | None:
    """A motion that has ended, as the audit trail tells of it (newest first); None where it does not tell of an end."""
    end = next((entry for entry in trail if entry.what in ENDS), None)
    if end is None:
        return None
    in_favour = [entry.by for entry in reversed(trail) if entry.what in (MOVED, VOTED_FOR)]
    against = [entry.by for entry in reversed(trail) if entry.what == VOTED_AGAINST]
    return {
        "id": end.subject,
        "motion": None,
        "what": end.why,
        "state": end.what.removeprefix("motion-"),
        "by": end.by,
        "votedFor": in_favour,
        "votedAgainst": against,
        "for": len(in_favour),
        "against": len(against),
        "needed": None,
        "blocking": None,
        "seats": None,
        "waitsFor": [],
        "expires_ms": None,
        "ended_ms": end.time_ms,
    }


def _subject(kind: str, what: object, genesis_hash: bytes) -> Subject:
    """What is moved, as the API's body names it.

    Raises as ``applying.read``, BadInput ``bad-did``, Refused ``parameter-unknown``.
    """
    match kind, what:
        case "admit", str():
            return applying.read(what, genesis_hash)
        case "coordinator", {"did": str() as did, "entitled": bool() as entitled}:
            return Entitle(read_did(did), entitled)
        case "parameters", dict():
            return Configure(tuple(sorted(read_changes(cast(cbor.Value, what)).items())))
        case "reinstate", str():
            return Reinstate(read_did(what))
        case "expel", str():
            return Expel(read_did(what))
        case "upgrade", {"version": int() as version, "height": int() as height}:
            return Upgrade(version, height)
    raise BadInput("bad-request", f"nothing is moved by {kind!r}")


def _fields(subject: Subject) -> Mapping[str, object]:
    """The motion for programs, as ``_subject`` takes it; of an admission what people compare instead of the whole application."""
    match subject:
        case Admit(did, root):
            return {"admit": {"did": did, "rootKey": root}}
        case Entitle(did, entitled):
            return {"coordinator": {"did": did, "entitled": entitled}}
        case Configure(changes):
            return {"parameters": dict(changes)}
        case Reinstate(did):
            return {"reinstate": did}
        case Expel(did):
            return {"expel": did}
        case _:
            assert isinstance(subject, Upgrade)
            return {"upgrade": {"version": subject.version, "height": subject.height}}
