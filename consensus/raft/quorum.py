"""What a majority has agreed on, and what two majorities have (joint consensus; thesis, section 4.3)."""

from collections.abc import Collection, Mapping

from meshos.ids import NodeId


def majority(voters: int) -> int:
    """How many of ``voters`` are a quorum: any two quorums have a voter in common."""
    return voters // 2 + 1


def agreed(voters: Collection[NodeId], at: Mapping[NodeId, int]) -> int | None:
    """The highest number that a majority of ``voters`` has reached, each standing at ``at`` (0 if it does not say). None where nobody
    votes: then nothing is asked of them."""
    if not voters:
        return None
    reached = sorted([at.get(voter, 0) for voter in voters], reverse=True)
    return reached[majority(len(voters)) - 1]


def jointly_agreed(halves: tuple[Collection[NodeId], Collection[NodeId]], at: Mapping[NodeId, int]) -> int:
    """The highest number that a majority of each half has reached; 0 where nobody votes at all."""
    one, other = agreed(halves[0], at), agreed(halves[1], at)
    if one is None:
        return other or 0
    return one if other is None else min(one, other)


def won(voters: Collection[NodeId], votes: Mapping[NodeId, bool]) -> bool | None:
    """Whether a majority of ``voters`` said yes (True), can say so no more (False), or neither yet (None). Where nobody votes: True."""
    need = majority(len(voters)) if voters else 0
    yes = sum(votes.get(voter) is True for voter in voters)
    no = sum(votes.get(voter) is False for voter in voters)
    if yes >= need:
        return True
    return False if len(voters) - no < need else None


def jointly_won(halves: tuple[Collection[NodeId], Collection[NodeId]], votes: Mapping[NodeId, bool]) -> bool | None:
    """Both halves must be won; one that is lost loses all. Where nobody votes at all, nothing is won."""
    if not halves[0] and not halves[1]:
        return False
    results = (won(halves[0], votes), won(halves[1], votes))
    if False in results:
        return False
    return None if None in results else True
