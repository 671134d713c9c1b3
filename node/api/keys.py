"""API keys: who may ask what of this node, how often, and for how much MESH.

A key is ``mk_<id>_<secret>``. The id is public (it stands in logs); of the whole only the SHA-256 is kept, which is
enough for 256 random bits. The keys of people are kept in a file that only the node's user may read; the keys of agents'
processes live as long as the processes, in memory.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from meshos.errors import BadInput, Refused, busy
from meshos.ids import AgentId
from meshos.node.api import limits
from meshos.node.api.amounts import text
from meshos.node.api.rates import Bucket
from meshos.node.api.shapes import Role
from meshos.storage.disk import disk_failed
from meshos.storage.files import write_whole

Right = Literal["find", "call", "look", "operate", "keys"]

RIGHTS: dict[Role, frozenset[Right]] = {
    "admin": frozenset({"find", "call", "look", "operate", "keys"}),
    "operator": frozenset({"find", "call", "look", "operate"}),
    "caller": frozenset({"find", "call", "look"}),
    "agent": frozenset({"find", "call"}),
    "read": frozenset({"find", "look"}),
}
"""find: discover, agents, explain. call: tasks. look: members, status, events, metrics. operate: deploy, publish, move MESH
within the key's budget, propose and judge decisions, move and vote, remove nodes. keys: API keys."""

DEPTH = 8
"""How many calls may follow one another from a person's key; an agent's key has one less than the call that it serves."""


@dataclass(slots=True)
class Key:
    """One key and its purse. ``budget_micro`` None: no limit. ``held_micro`` is at risk in calls under way."""

    id: str
    name: str
    role: Role
    digest: bytes
    budget_micro: int | None
    spent_micro: int = 0
    depth: int = DEPTH
    agent: AgentId | None = None
    kept: bool = True
    held_micro: int = 0
    bucket: Bucket = field(default_factory=lambda: Bucket(0, 0, 0, 0))

    def left_micro(self) -> int | None:
        """What may still be held; None for any amount."""
        return None if self.budget_micro is None else self.budget_micro - self.spent_micro - self.held_micro

    def hold(self, micro: int) -> None:
        """See ``shapes.Purse``."""
        left = self.left_micro()
        if left is not None and micro > left:
            raise Refused(
                "budget-exceeded",
                f"the key {self.name!r} has {text(max(0, left))} MESH left, and this needs {text(micro)}",
                hint="ask the operator of the node for a larger budget",
            )
        self.held_micro += micro

    def settle(self, held: int, spent: int) -> None:
        """See ``shapes.Purse``."""
        self.held_micro -= held
        self.spent_micro += min(held, spent)


class KeyRing:
    """The keys of one node."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}

    def mint(
        self,
        name: str,
        role: Role,
        *,
        budget_micro: int | None = None,
        depth: int = DEPTH,
        agent: AgentId | None = None,
        kept: bool = True,
    ) -> str:
        """A new key's text, which is shown once and not kept. ``kept`` False: gone when the node ends."""
        if len(self._keys) >= limits.KEYS:
            raise busy("the node's list of API keys")
        identity = secrets.token_hex(6)
        token = f"mk_{identity}_{secrets.token_urlsafe(32)}"
        self._add(Key(identity, name, role, _digest(token), budget_micro, depth=depth, agent=agent, kept=kept))
        return token

    def take_in(self, token: str, name: str, role: Role, *, budget_micro: int | None = None) -> None:
        """A key that was made elsewhere (``mesh init``); raises BadInput ``bad-api-key`` if it has not a key's form."""
        self._add(Key(_identity(token), name, role, _digest(token), budget_micro))

    def _add(self, key: Key) -> None:
        per_s, burst = limits.RATES[key.role]
        key.bucket = Bucket(per_s, burst, burst, 0.0)
        self._keys[key.id] = key

    def revoke(self, key_id: str) -> bool:
        """The key opens nothing any more; False if there was none."""
        return self._keys.pop(key_id, None) is not None

    def all_keys(self) -> tuple[Key, ...]:
        """All keys, in the order in which they were made."""
        return tuple(self._keys.values())

    def find(self, token: str) -> Key | None:
        """The key whose text is ``token``, compared in constant time; None if there is none."""
        parts = token.split("_", 2)
        if len(parts) != 3 or len(token) > 200:
            return None
        key = self._keys.get(parts[1])
        digest = _digest(token)
        if not hmac.compare_digest(digest, key.digest if key is not None else _NOBODY):
            return None
        return key

    # -- the file ----------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the kept keys to ``path``, whole or not at all, readable by the node's user only (blocking). Raises DiskFailed."""
        rows = [
            {
                "id": key.id,
                "name": key.name,
                "role": key.role,
                "sha256": key.digest.hex(),
                "budgetMicro": key.budget_micro,
                "spentMicro": key.spent_micro,
                "depth": key.depth,
            }
            for key in self._keys.values()
            if key.kept
        ]
        document = {"schema": "meshos.api-keys/1", "keys": rows}
        try:
            write_whole(path, json.dumps(document, indent=1).encode(), 0o600)
        except OSError as error:
            raise disk_failed(error, path) from error

    @classmethod
    def load(cls, path: Path) -> "KeyRing":
        """The keys in ``path``; none if there is no such file. Raises BadInput ``bad-key-file``."""
        ring = cls()
        if not path.exists():
            return ring
        try:
            with path.open("rb") as file:
                data = file.read(limits.KEYS_FILE_BYTES + 1)
        except OSError as error:
            raise BadInput("bad-key-file", f"{path} cannot be read: {error.strerror}", hint="check the path and who may read it") from error
        if len(data) > limits.KEYS_FILE_BYTES:
            raise BadInput("bad-key-file", f"{path} has more than {limits.KEYS_FILE_BYTES} bytes, so it is something else")
        try:
            document = json.loads(data)
            for row in document["keys"]:
                ring._add(_from_row(row))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise BadInput(
                "bad-key-file", f"{path} is not a list of API keys", hint="restore it, or remove it and make new keys"
            ) from error
        return ring


def _from_row(row: Mapping[str, object]) -> Key:
    role, budget, spent, depth = row["role"], row["budgetMicro"], row["spentMicro"], row["depth"]
    if role not in get_args(Role) or not (budget is None or isinstance(budget, int)):
        raise ValueError("a role or a budget that is none")
    if not isinstance(spent, int) or not isinstance(depth, int):
        raise TypeError("a number that is none")
    digest = bytes.fromhex(str(row["sha256"]))
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("a digest that is none")
    return Key(str(row["id"]), str(row["name"]), cast(Role, role), digest, budget, spent, depth)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _identity(token: str) -> str:
    parts = token.split("_", 2)
    if len(parts) != 3 or parts[0] != "mk" or len(parts[2]) < 32:
        raise BadInput("bad-api-key", "this is not an API key", hint="keys look like mk_<id>_<secret>")
    return parts[1]


_NOBODY = _digest("nobody's key, compared with so that an unknown id takes as long as a wrong secret")
