"""Falling behind and catching up: who is how far, and blocks for those who lack them.

Everybody says now and then how far it is (``Status``); whoever hears of a higher height fetches blocks, one answer at a time. A block
with its certificate proves itself, so it may come from anybody. A peer whose votes show that it is stuck at a height that is decided
is sent the block unasked. Nodes without a vote follow: they ask with ``follow``, and are told of each new block for a while.
"""

from collections.abc import Callable

from meshos.consensus.pbft.block import Certified
from meshos.consensus.pbft.desk import Desk
from meshos.consensus.pbft.fetching import Fetching
from meshos.consensus.pbft.limits import MAX_FETCHED_BLOCKS, MAX_FOLLOWERS, MAX_MESSAGE_BYTES, MAX_PEERS
from meshos.consensus.pbft.messages import Blocks, Fetch, Status
from meshos.ids import NodeId

FETCH = "fetch"
STATUS = "status"
FOLLOWED_S = 10.0
"""How long a node that asked is told of new blocks."""
SOON_MS = 50
"""Who hears of a decided block waits this long for its votes before it fetches."""
_SLACK = 4096


class CatchingUp:
    """``commit`` takes the next certified block; ``transfer`` begins to take a state, where blocks would be too many or are gone."""

    def __init__(self, desk: Desk, commit: Callable[[Certified], None], transfer: Callable[[NodeId], None]) -> None:
        self._desk = desk
        self._commit = commit
        self._transfer = transfer
        self._fetching = Fetching(desk.timing.fetch_ms / 1000)
        self._followers: dict[NodeId, float] = {}
        self._helped: dict[NodeId, float] = {}
        self._following = 0
        self._committed_at = 0.0

    @property
    def behind(self) -> int:
        """By how many blocks others say that they are ahead."""
        return max(0, self._fetching.highest() - self._desk.chain.height)

    # -- asking --------------------------------------------------------------------------------------------------------

    def heard_of(self, peer: NodeId, height: int) -> None:
        """``peer`` has committed ``height``, it says."""
        desk = self._desk
        if height > desk.chain.height:
            self._fetching.claims(peer, height)
            self._arm()

    def ask(self) -> None:
        """Ask the next who claims to have more, if it is time."""
        desk = self._desk
        self._fetching.tick(desk.now)
        if desk.restoring:
            return
        peer = self._fetching.next(desk.now, desk.chain.height)
        if peer is not None:
            desk.send(peer, Fetch(desk.chain.height + 1))
        self._arm()

    def _arm(self) -> None:
        """Look again when there may be somebody to ask."""
        due = self._fetching.deadline(self._desk.chain.height)
        if due is not None:
            self._desk.timers.advance(FETCH, max(due, self._desk.after(SOON_MS)))

    def on_status(self, sender: NodeId, status: Status) -> None:
        """How far somebody is."""
        if status.height > self._desk.chain.height:
            self.heard_of(sender, status.height)
        elif status.height < self._desk.chain.height and self._may_help(sender):
            self._desk.send(sender, self._status())

    def on_blocks(self, sender: NodeId, message: Blocks) -> None:
        """Certified blocks, whose certificates hold."""
        desk = self._desk
        for certified in message.blocks:
            if certified.block.header.height == desk.chain.height + 1:
                self._commit(certified)
        gone = message.base > desk.chain.height + 1
        if gone or message.height - desk.chain.height > desk.config.transfer_blocks:
            self._transfer(sender)
        self._fetching.answered(sender, desk.now, message.height, first=message.first, oldest=message.base)
        self.ask()

    def follow(self) -> None:
        """Ask a validator, each time another, to be told of new blocks."""
        desk = self._desk
        others = desk.others()
        if others and not desk.restoring:
            self._following = (self._following + 1) % len(others)
            desk.send(others[self._following], Fetch(desk.chain.height + 1, follow=True))

    # -- answering -----------------------------------------------------------------------------------------------------

    def on_fetch(self, sender: NodeId, fetch: Fetch) -> None:
        """Send what was asked for, as much as fits."""
        if fetch.follow:
            self._accept_follower(sender)
        desk = self._desk
        if desk.allowance.has_more(sender, desk.now):
            blocks = self.blocks_from(fetch.height)
            size = sum(len(block.encoded) for block in blocks.blocks)
            desk.allowance.take(sender, size, desk.now, parts=len(blocks.blocks))
            desk.send(sender, blocks)

    def blocks_from(self, height: int) -> Blocks:
        """Certified blocks from ``height`` on, as many as fit into a message and are of one epoch's certificates or the next's."""
        chain = self._desk.chain
        found: list[Certified] = []
        room = MAX_MESSAGE_BYTES - _SLACK
        while len(found) < MAX_FETCHED_BLOCKS and height <= chain.height:
            certified = chain.certified(height)
            if certified is None or len(certified.encoded) > room:
                break
            room -= len(certified.encoded)
            found.append(certified)
            height += 1
        return Blocks(chain.height, chain.base, tuple(found))

    def help(self, peer: NodeId, height: int) -> None:
        """``peer`` is stuck at ``height``, which is decided: send it the block, now and then."""
        if self._desk.chain.validators.index_of(peer) is not None and self._may_help(peer):
            self._desk.send(peer, self.blocks_from(height))

    def _may_help(self, peer: NodeId) -> bool:
        """Not more often than things are said again."""
        now, last = self._desk.now, self._helped.get(peer)
        if last is not None and now - last < self._desk.timing.resend_ms / 1000:
            return False
        if len(self._helped) >= MAX_PEERS:
            self._helped.clear()
        self._helped[peer] = now
        return True

    def late_vote(self, sender: NodeId, height: int) -> None:
        """A vote for a height that is decided here. Just after the decision it is merely slow."""
        desk = self._desk
        if height < desk.chain.height or desk.now - self._committed_at > desk.timing.resend_ms / 1000:
            self.help(sender, height)

    def committed(self, certified: Certified) -> None:
        """A block was committed: those who follow hear of it."""
        desk = self._desk
        self._committed_at = desk.now
        if not self._followers:
            return
        told = Blocks(desk.chain.height, desk.chain.base, (certified,))
        for follower, until in list(self._followers.items()):
            if until < desk.now:
                del self._followers[follower]
            else:
                desk.send(follower, told)

    def _accept_follower(self, node: NodeId) -> None:
        if node in self._followers or len(self._followers) < MAX_FOLLOWERS:
            self._followers[node] = self._desk.now + FOLLOWED_S

    def tell_status(self) -> None:
        """Say how far this replica is."""
        desk = self._desk
        desk.again(STATUS, desk.timing.status_ms)
        desk.broadcast(self._status())

    def _status(self) -> Status:
        desk = self._desk
        return Status(desk.chain.epoch, desk.ballot.record.view, desk.chain.height)
