"""The node's door (``protocols/square/join.py``): who applies from outside, and may come in, is moved to be admitted.

Who may is a parameter of the ledger, ``admission``: nobody without people's votes, whom this organisation has invited, or anybody. The
other organisations' nodes then vote by themselves (``protocols/ledger/registrar.py``). For some ADMISSIONS at once and an hour, as there,
and with half of the motions that an organisation may have open, so that its people can always move what they want. Who was a member before
is for people to decide: else its name, and what it left, would be whose who asks first.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

from meshos.buckets import Bucket, Buckets, block_of
from meshos.consensus.ledger import queries
from meshos.consensus.ledger.limits import MAX_MOTIONS
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.motions import Admit
from meshos.consensus.ledger.parameters import BY_INVITATION, BY_VOTE, in_force
from meshos.crypto.guests import read_guest
from meshos.crypto.keys import multikey
from meshos.errors import MeshError, Refused, busy
from meshos.ids import Peer
from meshos.node import applying
from meshos.node.facade.moving import MotionDesk
from meshos.protocols.ledger.limits import ADMISSIONS, HOUR_S, LAPSE_MARGIN_MS, LIFETIME_MS
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.membership.events import MemberView
from meshos.protocols.square.join import ASKED, MEMBER, POLICIES, SEEDS, TIMEOUT_S, SeedEntry

PLACES_A_BLOCK = 16
"""For so many of one address (or one IPv6 network) this organisation moves at once, and an hour: a class that learns, and no crowd."""
REMEMBERED = 4_096
"""Addresses, and applications, that are counted; the one that came longest ago is forgotten."""

LAPSED_S = (LIFETIME_MS + LAPSE_MARGIN_MS) / 1000
"""So long a motion of which nothing was heard in time may still come to the ledger."""


class Door:
    """See the module's text. ``members`` are all that membership knows; ``now`` and ``wall`` are in seconds."""

    def __init__(
        self,
        me: Peer,
        window: LedgerView,
        motions: MotionDesk,
        genesis_hash: bytes,
        members: Callable[[], Iterable[MemberView]],
        *,
        now: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._me = me
        self._window = window
        self._motions = motions
        self._genesis_hash = genesis_hash
        self._members = members
        self._now, self._wall = now, wall
        self._all = Bucket(ADMISSIONS / HOUR_S, ADMISSIONS)
        self._blocks = Buckets(PLACES_A_BLOCK / HOUR_S, PLACES_A_BLOCK, REMEMBERED)
        self._moving: dict[str, float] = {}  # applications that are being moved, or may be: until then they count as open motions
        self._tried: dict[str, int] = {}  # applications, and how many motions each has come to

    def policy(self) -> str:
        """See ``join.Door``."""
        self._motions.check_ready()
        return POLICIES[in_force(self._window)["admission"]]

    def seeds(self) -> Sequence[SeedEntry]:
        """This node first, then one of each organisation, then the rest."""
        alive = [member for member in self._members() if member.state == "alive" and member.routable and member.facts.link]
        seen: set[str] = set()
        firsts: list[MemberView] = []
        others: list[MemberView] = []
        for member in sorted(alive, key=lambda one: (one.node_id != self._me.node, one.node_id)):
            (others if member.org in seen else firsts).append(member)
            seen.add(member.org)
        return [SeedEntry(one.node_id, one.facts.gossip, one.facts.link) for one in (*firsts, *others)[:SEEDS]]

    async def knock(self, application: str, invitation: str | None, address: str) -> tuple[str, bytes | None]:
        """See ``join.Door``.

        Raises as ``applying.read`` and ``read_guest``, Refused ``already-a-member`` or ``already-asked`` (where it is by another root key),
        ``admission-by-vote``, ``not-invited``, ``busy``, and as ``MotionDesk.move``.
        """
        self._motions.check_ready()
        asked = applying.read(application, self._genesis_hash)
        org = ORGS.read(self._window, asked.did)
        if org is not None and not org.left_ms:
            if org.root != asked.root:
                raise Refused("already-a-member", f"{asked.did} is a member by another root key", hint="choose another name")
            return MEMBER, None
        waiting = self._motion_for(asked)
        if waiting is not None:
            self._moving.pop(_name(application), None)
            return ASKED, waiting
        self._check_may(asked, invitation, former=org is not None)
        return await self._move(application, block_of(address))

    def _motion_for(self, asked: Admit) -> bytes | None:
        for id_, motion in queries.motions(self._window):
            if isinstance(motion.subject, Admit) and motion.subject.did == asked.did:
                if motion.subject.root != asked.root:
                    told = f"somebody has asked for {asked.did} with another root key"
                    raise Refused("already-asked", told, hint="choose another name, or ask again when that is decided")
                return id_
        return None

    def _check_may(self, asked: Admit, invitation: str | None, *, former: bool) -> None:
        policy = in_force(self._window)["admission"]
        if policy == BY_VOTE or former:
            why = f"{asked.did} was a member before: its name and what it left" if former else "who comes in here"
            hint = "hand the application (mesh org apply) to an organisation that votes: it runs mesh propose, and the others mesh vote"
            raise Refused("admission-by-vote", f"{why} is decided by people", hint=hint)
        if policy != BY_INVITATION:
            return
        hint = "have it invite you: mesh org invite --guest APPLICATION; or ask a node of the organisation that did"
        if invitation is None:
            raise Refused("not-invited", f"who comes in here is invited by a member, and {self._me.org} knows of no invitation", hint=hint)
        invited = read_guest(invitation, genesis_hash=self._genesis_hash, now=self._wall())
        own = ORGS.read(self._window, self._me.org)
        meant = invited.host, multikey(invited.root), invited.guest, multikey(invited.key)
        if own is None or meant != (self._me.org, own.root, asked.did, asked.root):
            told = f"this is no invitation of {asked.did}, with the root key that it has, by {self._me.org}"
            raise Refused("not-invited", told, hint=hint)

    async def _move(self, application: str, block: str) -> tuple[str, bytes | None]:
        """Move it, within what the door may. What comes to no motion takes nothing; what timed out goes on under the name that it had."""
        name, now, mine = _name(application), self._now(), self._blocks.of(block)
        own, tried = ORGS.read(self._window, self._me.org), self._tried.get(name, 0)
        self._moving = {one: until for one, until in self._moving.items() if until > now}
        if own is not None and own.motions + len(self._moving.keys() - {name}) >= MAX_MOTIONS // 2:
            raise busy(f"the list of open motions of {self._me.org}, of which people need the rest")
        if mine.level(now) < 1:
            raise busy("the door of this organisation for who comes from your network")
        if not self._all.take(now):
            raise busy("the door of this organisation, which has let in as many as it may in an hour")
        mine.spend(now)
        self._moving[name] = math.inf
        try:
            moved = await self._motions.move("admit", application, f"join/{name}/{tried}", TIMEOUT_S / 2)
        except BaseException as error:
            mine.give_back()
            self._all.give_back()
            self._moving.pop(name, None)
            if not isinstance(error, MeshError) or error.outcome == "unknown":
                self._moving[name] = self._now() + LAPSED_S
            raise
        self._moving.pop(name, None)
        self._tried[name] = tried + 1  # that motion has been made: asked again after its end, another is
        if len(self._tried) > REMEMBERED:
            self._tried.pop(next(iter(self._tried)))
        return (ASKED if moved["state"] == "open" else MEMBER), bytes.fromhex(str(moved["id"]))


def _name(application: str) -> str:
    return hashlib.sha256(application.encode()).hexdigest()[:16]
