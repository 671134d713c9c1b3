"""What ``mesh org leave`` does: the organisation leaves the mesh by its root key, once its tabs as a caller are closed."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from meshos.consensus.ledger.orgs import Leave
from meshos.errors import Refused
from meshos.node.cli.client_connection import Client, Target
from meshos.node.cli.client_text import number, org_name, plural, rows_of
from meshos.node.cli.paid_tabs import PaidTab, paid_tabs, ways_to_close
from meshos.node.cli.registering import send_by_root
from meshos.node.config import NodeConfig


@dataclass(frozen=True, slots=True)
class Standing:
    """What an organisation has on the ledger: its keys, its money, its tabs. ``left``: when it left the mesh; None if it has not.

    ``paid``: its open tabs, ``tabs`` of them, in which it pays; ``root``: the folder of the root key, as it is typed.
    """

    did: str
    balance: str
    keys: int
    votes: bool
    tabs: int
    earning: int
    left: str | None
    paid: tuple[PaidTab, ...]
    root: str


def standing(config: NodeConfig, target: Target) -> Standing:
    """As the asked node sees it; raises as ``Client.get``."""
    with Client(target) as client:
        org = client.get("v1", "ledger", "orgs", config.org)
        account = client.get("v1", "accounts", config.org)
        paid = tuple(paid_tabs(client, config.org, account))
    keys = 1 + 2 * len(rows_of(org.get("nodes"))) + len(rows_of(org.get("people")))
    earning = sum(tab.get("provider") == config.org for tab in rows_of(account.get("tabs")))
    tabs, left = int(number(org.get("tabs")) or 0), org.get("left")
    votes = org.get("seat") is not None
    there = shlex.quote(str(config.dir))
    return Standing(config.org, str(account.get("balance")), keys, votes, tabs, earning, str(left) if left else None, paid, there)


def consequences(now: Standing, heir: str | None) -> list[str]:
    """What leaving would do, a sentence each."""
    money = f"its {now.balance} MESH {f'go to {org_name(heir)}' if heir is not None else 'stay in its account, out of reach'}"
    told = [
        f"{now.did} leaves the mesh; it comes back only by a motion of the others",
        f"its {plural(now.keys, 'key')} on the ledger are retired, the root key with them: they sign nothing any more",
        money if heir is not None else f"{money} until it is back: --heir DID moves them to another organisation",
    ]
    if now.votes:
        told.append("its vote ends with the next checkpoint; until then leave the node running that votes: the others let in no other")
    if now.earning:
        told.append(f"what it has not redeemed on {plural(now.earning, 'tab')} that others pay it on is lost")
    return told


def check(now: Standing) -> None:
    """Raise Refused ``tabs-open`` while it pays on a tab; the hint names the command for each, and where it is run."""
    if now.tabs:
        ways = ways_to_close(now.paid, now.root)
        hint = f"{'; '.join(ways)}{', then ' if ways else ''}wait until their dispute windows are over"
        raise Refused("tabs-open", f"{now.did} has {plural(now.tabs, 'open tab')} on which it pays", hint=hint)


def leave(config: NodeConfig, heir: str | None, target: Target) -> tuple[int, Mapping[str, object]]:
    """Send it: the height of its block, and the account as it is then. Raises BadInput ``root-key-not-here``, and as ``signing.send``."""
    with Client(target) as client:
        height = send_by_root(client, config, Leave(heir))
        return height, client.get("v1", "accounts", config.org)
