"""The directory's Flows by name, for the table of services of a node."""

from collections.abc import Coroutine
from functools import partial
from typing import Any

from meshos.flow_machine import Service
from meshos.protocols.directory.answering import answer
from meshos.protocols.directory.cells.counting import TALLY
from meshos.protocols.directory.cells.query import SEARCH
from meshos.protocols.directory.disowning import disown
from meshos.protocols.directory.explaining import explain
from meshos.protocols.directory.keeping import keep
from meshos.protocols.directory.lookup import lookup
from meshos.protocols.directory.machine import KEEP, TELL
from meshos.protocols.directory.parts import Parts
from meshos.protocols.directory.publishing import publish, withdraw
from meshos.protocols.directory.record import PROTOCOL
from meshos.protocols.directory.search import discover, discover_here
from meshos.protocols.directory.sync import hinted, serve, tell
from meshos.protocols.directory.totalling import count
from meshos.protocols.directory.wire import HINT

DISCOVER = "discover"
"""Given a ``search.DiscoverRequest``, returns a ``search.DiscoverAnswer``."""

DISCOVER_HERE = "discover-here"
"""Given the same, returns what this node holds itself (``search.Found``), the best first; no other node is asked."""

LOOKUP = "directory-lookup"
"""Given an agent's id, returns its sealed record, from this node or whoever holds it; None if nobody has it."""

EXPLAIN = "directory-explain"
"""Given an ``explaining.ScoreAsked``, returns an ``explaining.Explained``."""

PUBLISH = "directory-publish"
"""Given a ``publishing.Publication``, returns a ``publishing.Published``."""

WITHDRAW = "directory-withdraw"
"""Given a ``publishing.Withdrawal``, returns a ``publishing.Published``."""

DISOWN = "directory-disown"
"""Given a frozenset of organisations whose lists are new, returns how many entries of revoked nodes were let go of."""


def services(parts: Parts) -> dict[str, Service]:
    """For other nodes ``PROTOCOL``, ``HINT``, ``SEARCH`` and ``TALLY``; for this one those of which a constant here names the argument.

    ``KEEP`` and ``TELL`` are started by the directory machine itself.
    """

    def keep_on(_: object) -> Coroutine[Any, Any, object]:
        return keep(parts)

    return {
        PROTOCOL: partial(serve, parts),
        HINT: partial(hinted, parts),
        SEARCH: partial(answer, parts),
        TALLY: partial(count, parts),
        KEEP: keep_on,
        TELL: partial(tell, parts),
        DISCOVER: partial(discover, parts),
        DISCOVER_HERE: partial(discover_here, parts),
        LOOKUP: partial(lookup, parts),
        EXPLAIN: partial(explain, parts),
        PUBLISH: partial(publish, parts),
        WITHDRAW: partial(withdraw, parts),
        DISOWN: partial(disown, parts),
    }
