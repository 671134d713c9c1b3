"""What a person signs on this machine: a key file is opened here, a node only passes on what was signed, as of anybody.

The node tells the key's next nonce, the ledger's time and the genesis that signatures are for. It cannot change what was signed; it could
describe a decision wrongly, so a person asks a node that they trust.
"""

import base64
import getpass
import os
import sys
import time
from collections.abc import Callable
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
from meshos.crypto.keystore import ROOT_COST, Cost, FileKeyStore, Passphrase
from meshos.crypto.signing import sign
from meshos.errors import BadInput, Refused
from meshos.node.cli.client_connection import Client
from meshos.node.cli.client_ledger import GRACE_S
from meshos.node.cli.client_text import number
from meshos.node.folder import PASSPHRASE_VARIABLE, exported

KEY_NAME = "human"
PASSPHRASE_FILE = "passphrase"
LIFETIME_MS = 120_000
"""How long what was signed may be committed: far longer than any commit, and the command says at its end if it does not know."""


def judge(client: Client, decision: str, act: str, reason: str, file: Path, timeout_s: float) -> dict[str, object]:
    """Approve or reject as a person; to reject what was executed is to reverse it. Gives the decision as it is then.

    Raises as ``send``, and BadInput ``bad-reason``.
    """
    check_reason(reason)
    before = client.get("v1", "approvals", decision)
    said = REVERSE if act == REJECT and before.get("state") == EXECUTED else act
    id_ = bytes.fromhex(str(before["id"]))
    done = send(client, open_key(file), HUMAN, lambda: Judge(id_, said, reason), timeout_s)
    return {**client.get("v1", "approvals", str(before["id"])), **done, "act": said}


def pause(client: Client, file: Path, for_ms: int, reason: str, timeout_s: float) -> dict[str, object]:
    """Pause autonomy; raises as ``send``, and BadInput ``bad-reason``."""
    check_reason(reason)
    return send(client, open_key(file), HUMAN, lambda: Pause(for_ms, reason), timeout_s)


def send(client: Client, key: SigningKey, role: str, body: Callable[[], Body], timeout_s: float) -> dict[str, object]:
    """Sign a transaction and have the node order it; returns when it is committed: ``{txId, height, outcome}``.

    Raises Refused ``no-such-ledger-key`` or ``signer-not-allowed``, and by the ledger's refusal; Unreachable ``unknown-yet``.
    """
    name = multikey(key.public)
    known = client.get("v1", "ledger", "keys", name)
    if known.get("role") != role:
        raise Refused("signer-not-allowed", f"{name} is a {known.get('role')} key on the ledger, and this needs a {role} key")
    genesis_hash = bytes.fromhex(str(known["genesis"]))
    ledger_ms = int(datetime.fromisoformat(str(known["time"])).timestamp() * 1000)
    nonce, expires_ms = int(number(known.get("nonce")) or 0), max(ledger_ms, int(time.time() * 1000)) + LIFETIME_MS
    envelope = envelope_of(body(), name, nonce, expires_ms)
    request = transaction.request(envelope, sign(key, transaction.domain(genesis_hash), envelope))
    sent = {"request": base64.b64encode(request).decode(), "timeout": timeout_s}
    return client.post("v1", "transactions", body=sent, timeout_s=timeout_s + GRACE_S)


def check_reason(reason: str) -> None:
    """Raise BadInput ``bad-reason`` for what the ledger would not take."""
    if not is_text(reason):
        raise BadInput("bad-reason", f"a reason is one line of at most {MAX_REASON_BYTES} bytes that says something")


def open_key(file: Path) -> SigningKey:
    """The person's key; raises as ``FileKeyStore.open`` and ``passphrase_for``."""
    return exported(FileKeyStore.open(file, passphrase_for(file, new=False)), KEY_NAME)


def new_key(file: Path, passphrase: Passphrase, cost: Cost = ROOT_COST) -> SigningKey:
    """A new key file; raises as ``FileKeyStore.store``."""
    return exported(FileKeyStore.create(file, passphrase, (KEY_NAME,), cost), KEY_NAME)


def passphrase_for(file: Path, *, new: bool) -> Passphrase:
    """What opens the key file: MESH_PASSPHRASE, else the file ``passphrase`` beside it, else what is typed.

    Raises BadInput ``bad-passphrase`` or ``loose-permissions``.
    """
    if PASSPHRASE_VARIABLE in os.environ:
        return Passphrase.from_environment(PASSPHRASE_VARIABLE, os.environ)
    beside = file.parent / PASSPHRASE_FILE
    if beside.exists():
        return Passphrase.from_file(beside)
    if not sys.stdin.isatty():
        hint = f"set {PASSPHRASE_VARIABLE}, or run this in a terminal"
        raise BadInput("bad-passphrase", f"nothing says what opens {file}", hint=hint)
    typed = getpass.getpass(f"Passphrase of {file}: ")
    if new and getpass.getpass("Again: ") != typed:
        raise BadInput("bad-passphrase", "the two differ", hint="try again")
    return Passphrase(typed.encode())
