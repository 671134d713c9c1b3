"""Transactions that a running node must not take: each is refused by its name, moves nothing, and uses no nonce up."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from meshos.consensus.ledger import transaction
from meshos.consensus.ledger.limits import MAX_AMOUNT, MAX_LIFETIME_MS, MAX_PENDING
from meshos.consensus.pbft.limits import MAX_REQUEST_BYTES
from meshos.crypto.keys import SigningKey, multikey
from meshos.crypto.signing import sign
from meshos.node import folder
from meshos.node.config import load
from tests.mesh.testnet import Answer, Net

ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's group (RFC 8032, section 5.1): a careless verifier takes S + ORDER for S."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Payer:
    """An organisation's root key, and what the ledger tells of it."""

    root: SigningKey
    genesis_hash: bytes
    nonce: int
    to: str
    now_ms: int

    def envelope(self, amount: int = 5, *, key: SigningKey | None = None, ahead: int = 0, lives_ms: int = 60_000) -> bytes:
        """A transfer of so many millionths of a MESH."""
        body = [self.to, amount]
        return transaction.envelope("transfer", multikey((key or self.root).public), self.nonce + ahead, self.now_ms + lives_ms, body)

    def signed(self, envelope: bytes, *, by: SigningKey | None = None, genesis_hash: bytes = b"") -> bytes:
        """The request; ``by`` another key, or for another mesh."""
        return transaction.request(envelope, sign(by or self.root, transaction.domain(genesis_hash or self.genesis_hash), envelope))


@pytest.fixture
def payer(net: Net) -> Payer:
    """Gamma's root key, which has just paid beta: a good transaction is taken."""
    root = folder.open_root(load(Path(net.node("gamma").dir)))
    known = net.ask("gamma", "GET", f"/v1/ledger/keys/{multikey(root.public)}").body
    payer = Payer(root, bytes.fromhex(known["genesis"]), known["nonce"], net.node("beta").did, int(time.time() * 1000))
    assert send(net, payer.signed(payer.envelope())).body["outcome"] == "committed"
    return replace(payer, nonce=payer.nonce + 1)


def send(net: Net, request: bytes, org: str = "gamma") -> Answer:
    return net.ask(org, "POST", "/v1/transactions", {"request": base64.b64encode(request).decode(), "timeout": 20})


def standing(net: Net, payer: Payer) -> tuple[str, str, int]:
    """What both have, and the payer's next nonce."""
    accounts = [net.ask("alpha", "GET", f"/v1/accounts/{did}").body["balance"] for did in (net.node("gamma").did, payer.to)]
    return accounts[0], accounts[1], net.ask("alpha", "GET", f"/v1/ledger/keys/{multikey(payer.root.public)}").body["nonce"]


def malleated(request: bytes) -> bytes:
    """The same transaction with the other form of its signature."""
    half, scalar = request[:-32], int.from_bytes(request[-32:], "little")
    return half + (scalar + ORDER).to_bytes(32, "little")


def altered(payer: Payer) -> bytes:
    """Signed for 5, sent for 6."""
    good, more = payer.signed(payer.envelope(5)), payer.envelope(6)
    return transaction.request(more, transaction.decode(good).signature)


STRANGER = SigningKey(b"s" * 32)
BAD: dict[str, tuple[Callable[[Payer], bytes], str]] = {
    "forged": (lambda p: p.signed(p.envelope(), by=STRANGER), "bad-signature"),
    "malleated": (lambda p: malleated(p.signed(p.envelope())), "bad-signature"),
    "altered": (altered, "bad-signature"),
    "of another mesh": (lambda p: p.signed(p.envelope(), genesis_hash=b"g" * 32), "bad-signature"),
    "of a nonce that was used": (lambda p: p.signed(p.envelope(7, ahead=-1)), "nonce-used"),
    "of a nonce far ahead": (lambda p: p.signed(p.envelope(ahead=MAX_PENDING)), "nonce-ahead"),
    "overflowing": (lambda p: p.signed(p.envelope(2**64 - 1)), "amount-out-of-bounds"),
    "above all there is": (lambda p: p.signed(p.envelope(MAX_AMOUNT + 1)), "amount-out-of-bounds"),
    "of a negative amount": (lambda p: p.signed(p.envelope(-5)), "amount-out-of-bounds"),
    "oversized": (lambda p: p.signed(p.envelope()) + bytes(MAX_REQUEST_BYTES), "too-large"),
    "expired": (lambda p: p.signed(p.envelope(lives_ms=-HOUR_MS)), "transaction-expired"),
    "that lives too long": (lambda p: p.signed(p.envelope(lives_ms=MAX_LIFETIME_MS + HOUR_MS)), "expires-too-late"),
    "of a key that nobody knows": (lambda p: p.signed(p.envelope(key=STRANGER), by=STRANGER), "unknown-signer"),
    "of noise": (lambda p: b"\xff" * 200, "bad-encoding"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_transaction_is_refused_by_name_and_changes_nothing(net: Net, payer: Payer, kind: str) -> None:
    before = standing(net, payer)
    make, name = BAD[kind]
    answer = send(net, make(payer))
    assert answer.status >= 400, answer
    assert (answer.body["name"], answer.body["outcome"]) == (name, "not_done")
    assert standing(net, payer) == before


def test_a_replayed_transaction_is_told_where_it_stands_and_moves_nothing(net: Net, payer: Payer) -> None:
    request = payer.signed(payer.envelope())
    first = send(net, request)
    assert first.body["outcome"] == "committed", first
    after = standing(net, payer)
    for org in ("gamma", "delta"):
        again = send(net, request, org)
        assert again.body == first.body, "at whatever node"
    assert standing(net, payer) == after
