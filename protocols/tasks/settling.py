"""Learning afterwards what calls cost that nobody waits for any more: a Flow that runs as long as the node.

A caller's node may lose the end of a call: the provider was not reached, the Flow was cancelled, the node itself ended. The machine
"paying" keeps what was promised, and here the provider is asked for its recorded outcome, which stands on its signed receipt as any other.
"""

from collections.abc import Callable

from meshos.flow import Gather, Propose
from meshos.ids import NodeId, OrgDid
from meshos.protocols.payments.commands import PAYING, Promised, TakeUnsettled
from meshos.protocols.tasks.call import Calls


class Settling:
    """``providers_of`` gives the nodes of an organisation that can be reached now."""

    def __init__(self, calls: Calls, providers_of: Callable[[OrgDid], tuple[NodeId, ...]]) -> None:
        self._calls = calls
        self._providers_of = providers_of

    async def settle(self, _: object) -> None:
        """Started once with the node, and without a deadline. A call that cannot be settled now comes again later."""
        while True:
            unsettled = await Propose[tuple[Promised, ...]](TakeUnsettled(), to=PAYING)
            await Gather(*(self._calls.settle(call, self._providers_of(call.provider)) for call in unsettled), each=True)
