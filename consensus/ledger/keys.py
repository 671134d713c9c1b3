"""Keys: who signs transactions, for which organisation, and in which role.

A key has one role (a key that does two things makes one theft two):

=========  ==========================================================================================
root       the organisation itself: its keys, its nodes, its seat, its leaving; all that a node may
node       one of its nodes, by node id: pays, opens tabs, commits to agents; the node that holds the
           organisation's seat also speaks for it (motions, approvals)
human      a person whom it lets speak: pauses autonomy, and more with seats (``people.py``)
validator  votes in PBFT, which is no transaction: it signs none
=========  ==========================================================================================

Whoever registers a key proves that its holder agrees: by the key's signature over [organisation, role] in the phase "possession".
So nobody can take a key that another is about to register.

A retired key stays known, with its nonce, until all that it signed while it counted has expired. So no key begins again at nonce 0
while an old transaction of its could be executed once more.
"""

from meshos import cbor
from meshos.consensus.ledger.agenda import PRUNE, Item, schedule
from meshos.consensus.ledger.draft import Draft, Sender, Table
from meshos.consensus.ledger.limits import MAX_RETIRED_KEYS, RETIRED_MS
from meshos.consensus.ledger.packing import pack, unpack
from meshos.consensus.ledger.transaction import domain
from meshos.crypto.signing import Claim
from meshos.errors import Refused, busy
from meshos.values import frozen

ROOT, NODE, HUMAN, VALIDATOR = "root", "node", "human", "validator"
RETIRED = ""

FORGOTTEN = "key"
"""On the agenda: a retired key's time is over."""


@frozen
class Key:
    """``nonce`` is that of its next transaction. ``label``: a person's name; a node's validator key, and the other way round.

    ``burnt``: this validator key signed two things where it must sign one (``evidence.py``).
    """

    role: str
    org: str
    nonce: int = 0
    label: str = ""
    burnt: bool = False


RETIRED_KEYS: Table[int] = Table(b"retired/", lambda count: pack(count), lambda value: int(unpack(value)[0]))
"""How many retired keys of each organisation are still remembered."""
KEYS = Table(b"key/", lambda k: pack(k.role, k.org, k.nonce, k.label, k.burnt), lambda value: Key(*unpack(value)))


def possession(genesis_hash: bytes, name: str, org: str, role: str, signature: bytes) -> Claim:
    """That ``name`` agrees to be the key of ``org`` in ``role``."""
    return Claim(name, domain(genesis_hash, "possession"), cbor.encode([org, role]), signature)


def register(draft: Draft, name: str, key: Key) -> None:
    """``name`` counts from now on; raises Refused ``key-in-use``."""
    if draft.read(KEYS, name) is not None:
        raise Refused("key-in-use", f"{name} is registered already, or was until a day ago")
    draft.write(KEYS, name, key)


def check_room(draft: Draft, org: str, most: int = MAX_RETIRED_KEYS) -> None:
    """Raise Refused ``busy`` where so many keys of ``org`` were retired within a day that it may have no new one. Asked of what adds a
    key, never of what takes one away.
    """
    if (draft.read(RETIRED_KEYS, org) or 0) >= most:
        raise busy(f"the list of keys of {org} that were retired within a day")


def retire(draft: Draft, name: str) -> None:
    """``name`` signs nothing any more."""
    key = draft.read(KEYS, name)
    assert key is not None
    draft.write(RETIRED_KEYS, key.org, (draft.read(RETIRED_KEYS, key.org) or 0) + 1)
    draft.write(KEYS, name, Key(RETIRED, key.org, key.nonce, key.label, key.burnt))
    schedule(draft, PRUNE, Item(draft.time_ms + RETIRED_MS + 1, FORGOTTEN, name.encode()))


def forget(draft: Draft, id_: bytes) -> None:
    """A retired key's time is over. One that is burnt stays known as such."""
    key = draft.read(KEYS, id_)
    assert key is not None
    draft.write(RETIRED_KEYS, key.org, ((draft.read(RETIRED_KEYS, key.org) or 0) - 1) or None)
    if not key.burnt:
        draft.write(KEYS, id_, None)


def own_key(draft: Draft, by: Sender, name: str, role: str) -> Key:
    """The key ``name``; raises Refused ``key-unknown`` unless it is one of the sender's organisation in this role."""
    key = draft.read(KEYS, name)
    if key is None or key.org != by.org or key.role != role:
        raise Refused("key-unknown", f"{name} is no {role} key of {by.org}")
    return key
