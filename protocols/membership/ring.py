"""Whom to probe next: randomised round robin (SWIM, Das et al. 2002, section 4.3).

Members are probed in the order of a list that is shuffled after each round; a new one is put in at random. So each is probed once in
every round, and found dead within two rounds at the latest, while no two nodes probe in step.
"""

import random

from meshos.protocols.membership.member import Member


class Ring:
    """The members that may be probed: not this node, not the dead, not those that left."""

    __slots__ = ("_gossip", "_next", "_random", "_rng", "members")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random
        self.members: list[Member] = []
        self._next = 0
        self._gossip = 0

    def __len__(self) -> int:
        return len(self.members)

    def add(self, member: Member) -> None:
        """Put ``member`` in at random."""
        members = self.members
        place = int(self._random() * (len(members) + 1))
        member.place = len(members)
        members.append(member)
        self._swap(place, member.place)

    def remove(self, member: Member) -> None:
        """Take ``member`` out; nobody else loses or gains a turn in this round."""
        place = member.place
        if place < self._next:
            self._next -= 1
            self._swap(place, self._next)
            place = self._next
        last = len(self.members) - 1
        self._swap(place, last)
        self.members.pop()
        member.place = -1

    def next(self) -> Member | None:
        """Whose turn it is."""
        members = self.members
        if not members:
            return None
        if self._next >= len(members):
            self._rng.shuffle(members)
            for place, member in enumerate(members):
                member.place = place
            self._next = 0
        member = members[self._next]
        self._next += 1
        return member

    def following(self, count: int) -> list[Member]:
        """The next ``count`` routable members in turn, for gossip: news that is sent a few times goes to different ones each time,
        which among few members misses far fewer than drawing lots does. The order is as random as the ring's."""
        members = self.members
        chosen: list[Member] = []
        for _ in range(min(len(members), 3 * count)):
            self._gossip = (self._gossip + 1) % len(members)
            member = members[self._gossip]
            if member.routable:
                chosen.append(member)
                if len(chosen) == count:
                    break
        return chosen

    def sample(self, count: int, but: Member | None = None) -> list[Member]:
        """Up to ``count`` different routable members at random, without ``but``; no more than a few draws each."""
        members = self.members
        size = len(members)
        if size <= count + 1:
            chosen = [member for member in members if member is not but and member.routable]
            self._rng.shuffle(chosen)
            return chosen[:count]
        chosen = []
        for _ in range(3 * count):
            member = members[int(self._random() * size)]
            if member is not but and member.routable and member not in chosen:
                chosen.append(member)
                if len(chosen) == count:
                    break
        return chosen

    def _swap(self, one: int, other: int) -> None:
        members = self.members
        members[one], members[other] = members[other], members[one]
        members[one].place = one
        members[other].place = other
