"""The node's door (``protocols/square/join.py``): who applies from outside, and may come in, is moved to be admitted.

Who may is a parameter of the ledger, ``admission``: nobody without people's votes, whom this organisation has invited, or anybody. The
other organisations' nodes then vote by themselves (``protocols/ledger/registrar.py``). For some ADMISSIONS at once and an hour, as there.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from meshos.consensus.ledger import queries
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.motions import Admit
from meshos.consensus.ledger.parameters import BY_INVITATION, BY_VOTE, in_force
from meshos.crypto.guests import read_guest
from meshos.crypto.keys import multikey
from meshos.errors import Refused, busy
from meshos.ids import Peer
from meshos.node import applying
from meshos.node.facade.moving import MotionDesk
from meshos.protocols.ledger.limits import ADMISSIONS, HOUR_S
from meshos.protocols.ledger.port import LedgerView
from meshos.protocols.membership.events import MemberView
from meshos.protocols.square.join import ASKED, MEMBER, POLICIES, SEEDS, TIMEOUT_S, SeedEntry


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
        self._left, self._counted_at = float(ADMISSIONS), now()

    def policy(self) -> str:
        """See ``join.Door``."""
        self._motions.check_ready()
        return POLICIES[in_force(self._window)["admission"]]

    def seeds(self) -> Sequence[SeedEntry]:
        """This node first, then one of each organisation, then the rest."""
        alive = [member for member in self._members() if member.state == "alive" and member.routable]
        seen: set[str] = set()
        firsts: list[MemberView] = []
        others: list[MemberView] = []
        for member in sorted(alive, key=lambda one: (one.node_id != self._me.node, one.node_id)):
            (others if member.org in seen else firsts).append(member)
            seen.add(member.org)
        return [SeedEntry(one.node_id, one.facts.gossip, one.facts.link) for one in (*firsts, *others)[:SEEDS]]

    async def knock(self, application: str, invitation: str | None) -> tuple[str, bytes | None]:
        """See ``join.Door``.

        Raises as ``applying.read`` and ``read_guest``, Refused ``already-a-member`` (with another root key), ``admission-by-vote``,
        ``not-invited``, ``busy``, and as ``MotionDesk.move``.
        """
        self._motions.check_ready()
        asked = applying.read(application, self._genesis_hash)
        org = ORGS.read(self._window, asked.did)
        if org is not None and not org.left_ms:
            if org.root != asked.root:
                raise Refused(
                    "already-a-member", f"{asked.did} is an organisation of this mesh, with another root key; choose another name"
                )
            return MEMBER, None
        waiting = self._motion_for(asked)
        if waiting is not None:
            return ASKED, waiting
        self._check_may(asked, invitation)
        self._take()
        name = hashlib.sha256(application.encode()).hexdigest()[:16]
        moved = await self._motions.move("admit", application, f"join/{name}/{self._window.height}", TIMEOUT_S / 2)
        return (ASKED if moved["state"] == "open" else MEMBER), bytes.fromhex(str(moved["id"]))

    def _motion_for(self, asked: Admit) -> bytes | None:
        found = (id_ for id_, motion in queries.motions(self._window) if isinstance(motion.subject, Admit) and motion.subject == asked)
        return next(found, None)

    def _check_may(self, asked: Admit, invitation: str | None) -> None:
        policy = in_force(self._window)["admission"]
        if policy == BY_VOTE:
            hint = "hand the application (mesh org apply) to an organisation that votes: it runs mesh propose, and the others mesh vote"
            raise Refused("admission-by-vote", "people vote here on who comes in", hint=hint)
        if policy != BY_INVITATION:
            return
        hint = f"have it invite you: mesh org invite --guest {asked.did}; or ask a node of the organisation that did"
        if invitation is None:
            raise Refused("not-invited", f"who comes in here is invited by a member, and {self._me.org} knows of no invitation", hint=hint)
        invited = read_guest(invitation, genesis_hash=self._genesis_hash, now=self._wall())
        own = ORGS.read(self._window, self._me.org)
        if own is None or (invited.host, invited.guest, multikey(invited.root)) != (self._me.org, asked.did, own.root):
            raise Refused("not-invited", f"this is no invitation of {asked.did} by {self._me.org}", hint=hint)

    def _take(self) -> None:
        now = self._now()
        self._left, self._counted_at = min(float(ADMISSIONS), self._left + (now - self._counted_at) * ADMISSIONS / HOUR_S), now
        if self._left < 1:
            raise busy("the door of this organisation, which has let in as many as it may in an hour")
        self._left -= 1
