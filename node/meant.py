"""Which one somebody means who writes how an id begins."""

from collections.abc import Iterable

from meshos.errors import BadInput, MeshError

AMONG = 3
"""Of those that it could be, so many are named."""
LOOKED_FOR = 100
"""Where the search is bounded, so many are looked for: who finds as many says that there may be more."""
ID_DIGITS = 64
"""Of what is called by a hash, in hex."""


def is_beginning(text: str, least: int) -> bool:
    """Whether an id of hex digits may begin so, with ``least`` of them to tell it from others."""
    return least <= len(text) <= ID_DIGITS and all(sign in "0123456789abcdef" for sign in text)


def only(text: str, fits: Iterable[str], none: MeshError, *, shown_chars: int | None = None) -> str:
    """The one that fits ``text``; raises ``none`` where nothing does, BadInput ``ambiguous-id`` where several do.

    ``shown_chars``: as much of each as tells people apart which it could be; None: all of it.
    """
    found = sorted(set(fits))
    if not found:
        raise none
    if len(found) > 1:
        could_be = ", ".join(one[:shown_chars] for one in found[:AMONG])
        left = len(found) - AMONG
        more = "" if left <= 0 else f" and {'at least ' if len(found) >= LOOKED_FOR else ''}{left} more"
        raise BadInput("ambiguous-id", f"{text[:80]} could be {could_be}{more}", hint="write more of the id")
    return found[0]
