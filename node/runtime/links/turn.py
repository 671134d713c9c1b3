"""What is sent to one peer in one turn of the node leaves as one piece."""

from collections.abc import Callable
from typing import TypeAlias

from meshos.node.runtime.links.channel import Channel
from meshos.node.runtime.links.limits import FLUSH_MESSAGES

AtTurnEnd: TypeAlias = Callable[[Callable[[], None]], None]
"""Calls what it is given once the events under way have been dealt with."""


class Turn:
    """Without ``at_turn_end`` each message leaves when it is sent."""

    def __init__(self, at_turn_end: AtTurnEnd | None) -> None:
        self._at_turn_end = at_turn_end
        self._channels: list[Channel] = []

    def sent(self, channel: Channel) -> None:
        """A message was put on ``channel``: see that it leaves."""
        if channel.to_flush:
            if channel.codec.waiting >= FLUSH_MESSAGES:
                channel.flush()
        elif self._at_turn_end is None:
            channel.flush()
        else:
            channel.to_flush = True
            self._channels.append(channel)
            if len(self._channels) == 1:
                self._at_turn_end(self._flush)

    def _flush(self) -> None:
        channels, self._channels = self._channels, []
        for channel in channels:
            channel.to_flush = False
            channel.flush()
