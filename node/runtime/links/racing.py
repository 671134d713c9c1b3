"""Several ways to the same end, each begun when the one before has failed or taken long; the first that arrives counts (RFC 8305,
"Happy Eyeballs", section 5)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

from meshos.errors import MeshError

T = TypeVar("T")


async def first_of(ways: Sequence[Callable[[], Awaitable[T]]], after_s: float, discard: Callable[[T], Awaitable[None]]) -> T:
    """What the first of ``ways`` gives; the others are cancelled, and what one of them gives all the same is discarded. Raises the
    MeshError of the first way where all have failed."""
    arrived: list[T] = []
    errors: list[MeshError | None] = [None] * len(ways)

    async def go(place: int, failed: trio.Event) -> None:
        try:
            found = await ways[place]()
        except MeshError as error:
            errors[place] = error
            failed.set()
            return
        if arrived:
            with trio.CancelScope(shield=True):
                await discard(found)
        else:
            arrived.append(found)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for place in range(len(ways)):
            failed = trio.Event()
            nursery.start_soon(go, place, failed)
            if place + 1 < len(ways):
                with trio.move_on_after(after_s):
                    await failed.wait()
    if arrived:
        return arrived[0]
    raise next(error for error in errors if error is not None)
