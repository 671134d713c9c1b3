"""What a person signs on this machine: a key file is opened here, a node only passes on what was signed, as of anybody.

The node tells the key's next nonce, the ledger's time and the genesis that signatures are for. It cannot change what was signed; it could
describe a decision wrongly, so a person asks a node that they trust.
"""

import base64
import time
from datetime import datetime
from pathlib import Path

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.approvals import EXECUTED, REJECT, REVERSE, Judge
from meshos.consensus.ledger.body import Body
from meshos.consensus.ledger.fields import is_text
from meshos.consensus.ledger.keys import HUMAN
from meshos.consensus.ledger.kinds import envelope_of
from meshos.consensus.ledger.limits import MAX_REASON_BYTES
from meshos.consensus.ledger.people import Pause
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.signing import sign
from meshos.errors import BadInput, Refused, Unreachable
from meshos.node.cli.client_answer import GRACE_S
from meshos.node.cli.client_connection import Client
from meshos.node.cli.client_text import number
from meshos.node.person import open_key

LIFETIME_MS = 120_000
"""How long what was signed may be committed: far longer than any commit, and the command says at its end if it does not know."""


def judge(client: Client, decision: str, act: str, reason: str, file: Path, timeout_s: float) -> dict[str, object]:
    """Approve or reject as a person; to reject what was executed is to reverse it. Gives the decision as it is then.

    Raises as ``send``, and BadInput ``bad-reason``.
    """
    check_reason(reason)
    before = client.get("v1", "approvals", decision)
    said = REVERSE if act == REJECT and before.get("state") == EXECUTED else act
    whole = str(before["id"])
    if not whole.startswith(decision):
        what = "the node answered with another decision than was asked for"
        raise Unreachable("bad-answer", what, hint="look at --node", outcome="not_done")
    id_ = bytes.fromhex(whole)
    done = send(client, open_key(file), HUMAN, Judge(id_, said, reason), timeout_s)
    return {**client.get("v1", "approvals", whole), **done, "act": said}


def pause(client: Client, file: Path, for_ms: int, reason: str, timeout_s: float) -> dict[str, object]:
    """Pause autonomy; raises as ``send``, and BadInput ``bad-reason``."""
    check_reason(reason)
    return send(client, open_key(file), HUMAN, Pause(for_ms, reason), timeout_s)


def send(client: Client, key: SigningKey, role: str, body: Body, timeout_s: float, *, mesh: bytes | None = None) -> dict[str, object]:
    """Sign a transaction and have the node order it; returns when it is committed: ``{txId, height, outcome}``.

    ``mesh``: the genesis hash, where it is known here; else the node's word is taken for which mesh is signed for. Raises Refused
    ``no-such-ledger-key``, ``signer-not-allowed`` or ``wrong-genesis``, and by the ledger's refusal; Unreachable ``unknown-yet``.
    """
    name = multikey(key.public)
    known = client.get("v1", "ledger", "keys", name)
    if known.get("role") != role:
        raise Refused("signer-not-allowed", f"{name} is a {known.get('role')} key on the ledger, and this needs a {role} key")
    genesis_hash = bytes.fromhex(str(known["genesis"]))
    if mesh not in (None, genesis_hash):
        what = "the node that was asked belongs to another mesh than the genesis here: nothing was signed"
        raise Refused("wrong-genesis", what, hint="look at --node")
    ledger_ms = int(datetime.fromisoformat(str(known["time"])).timestamp() * 1000)
    nonce, expires_ms = int(number(known.get("nonce")) or 0), max(ledger_ms, int(time.time() * 1000)) + LIFETIME_MS
    return submit(client, signed(key, body, genesis_hash, nonce, expires_ms), timeout_s)


def signed(key: SigningKey, body: Body, genesis_hash: bytes, nonce: int, expires_ms: int) -> str:
    """A transaction as it travels, in base64."""
    envelope = envelope_of(body, multikey(key.public), nonce, expires_ms)
    return base64.b64encode(transaction.request(envelope, sign(key, transaction.domain(genesis_hash), envelope))).decode()


def submit(client: Client, request: str, timeout_s: float) -> dict[str, object]:
    """Have the node order what was signed; as ``send``."""
    return client.post("v1", "transactions", body={"request": request, "timeout": timeout_s}, timeout_s=timeout_s + GRACE_S)


def check_reason(reason: str) -> None:
    """Raise BadInput ``bad-reason`` for what the ledger would not take."""
    if not is_text(reason):
        raise BadInput("bad-reason", f"a reason is one line of at most {MAX_REASON_BYTES} bytes that says something")
