"""Local health awareness (Lifeguard, Dadgar et al. 2017, section 4.1): how much this node distrusts its own timeouts.

The score rises when it is this node that seems slow (its probe failed and not even the helpers' nacks came in time, it had to
refute a suspicion of itself, it woke late), and falls with each successful probe. Times of probing are multiplied by score + 1.
"""


class Awareness:
    """``factor`` is what probe times are multiplied by."""

    __slots__ = ("_worst", "factor", "score")

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self.score = 0
        self.factor = 1

    def worse(self) -> None:
        """This node seems to be slow."""
        if self.score < self._worst:
            self.score += 1
            self.factor = self.score + 1

    def better(self) -> None:
        """A probe succeeded."""
        if self.score:
            self.score -= 1
            self.factor = self.score + 1
