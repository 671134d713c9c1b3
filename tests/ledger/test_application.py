"""The ledger as the agreement sees it: real keys, claims, roots, proofs, genesis, and the same blocks giving the same bytes."""

from dataclasses import replace
from random import Random

import pytest

from meshos.consensus.ledger import kinds, transaction, tree
from meshos.consensus.ledger.accounts import ACCOUNTS, TOTALS, Account, Totals, Transfer
from meshos.consensus.ledger.application import Ledger
from meshos.consensus.ledger.audit import AUDIT, NEXT, record
from meshos.consensus.ledger.conservation import faults
from meshos.consensus.ledger.draft import Draft
from meshos.consensus.ledger.founding import initial
from meshos.consensus.ledger.keys import KEYS, Key
from meshos.consensus.ledger.limits import MAX_AUDIT
from meshos.consensus.ledger.members import ORGS
from meshos.consensus.ledger.motions import MOTIONS
from meshos.consensus.ledger.proofs import verify
from meshos.consensus.ledger.results import OUTCOMES, decode_result, place
from meshos.consensus.ledger.seats import SEATS
from meshos.consensus.ledger.tabs import CloseTab, OpenTab, tab_id
from meshos.consensus.ledger.tree import State
from meshos.consensus.pbft.application import Application
from meshos.crypto import merkle
from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.signing import Ed25519Verifier, sign
from meshos.errors import BadInput, Broken, Refused
from meshos.genesis import Org, Validator
from meshos.genesis_content import Genesis
from meshos.storage.memory import MemoryStore
from tests.ledger.books import FUNDS, TEMPLATE, Books, did, genesis


def key(label: str) -> SigningKey:
    return SigningKey(Random(label).randbytes(32))


def real_genesis() -> Genesis:
    def org(name: str) -> Org:
        validator = Validator(node_id(key(f"{name} node").public), multikey(key(f"{name} validator").public))
        return Org(did(name), multikey(key(f"{name} root").public), b"0", validator, (), FUNDS)

    return replace(TEMPLATE, supply=2 * FUNDS, orgs=(org("alpha"), org("beta")), meta_coordinators=())


def test_with_real_keys_a_root_signs_by_its_multikey_and_a_node_by_its_id() -> None:
    books = Books(real_genesis())
    pay = Transfer(did("beta"), 5)
    for name, signer in (
        (multikey(key("alpha root").public), key("alpha root")),
        (node_id(key("alpha node").public), key("alpha node")),
    ):
        envelope = kinds.envelope_of(pay, name, 0, books.time_ms + 1_000)
        request = transaction.request(envelope, sign(signer, transaction.domain(books.genesis.hash), envelope))
        assert Ed25519Verifier().verify_many(books.ledger.claims(request)) == [True]
        forged = transaction.request(envelope, sign(key("stranger"), transaction.domain(books.genesis.hash), envelope))
        assert Ed25519Verifier().verify_many(books.ledger.claims(forged)) == [False]
        malleated = bytearray(request)
        malleated[-1] ^= 0x10  # S + L, or a wrong S: libsodium refuses what is not below the group's order (RFC 8032, section 5.1.7)
        assert Ed25519Verifier().verify_many(books.ledger.claims(bytes(malleated))) == [False]
        assert books.block([request])[0].name == ""
    assert books.balance("beta") == FUNDS + 10


def test_a_signature_with_a_raised_s_does_not_hold() -> None:
    """S + L passes a verifier that reduces it: two signatures for one transaction, without the key."""
    books = Books(real_genesis())
    envelope = kinds.envelope_of(Transfer(did("beta"), 5), multikey(key("alpha root").public), 0, books.time_ms + 1_000)
    signature = sign(key("alpha root"), transaction.domain(books.genesis.hash), envelope)
    order = 2**252 + 27742317777372353535851937790883648493
    raised = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    claims = [books.ledger.claims(transaction.request(envelope, whole))[0] for whole in (signature, signature[:32] + raised)]
    assert Ed25519Verifier().verify_many(claims) == [True, False]


def test_it_is_an_application_of_the_agreement() -> None:
    application: Application = Ledger(genesis())
    assert application.genesis().root == tree.root(Books().store)


# -- genesis -----------------------------------------------------------------------------------------------------------


def test_the_state_of_genesis() -> None:
    books = Books()
    assert TOTALS.read(books.state, b"") == Totals(4 * FUNDS + 77, 4 * FUNDS, 0, 77)
    assert ACCOUNTS.read(books.state, did("alpha")) == Account(FUNDS)
    assert KEYS.read(books.state, "alpha-1") == Key("node", did("alpha"), 0, "alpha-1-votes")
    seats = SEATS.read(books.state, b"")
    assert seats is not None and [entry.node for entry in seats.entries] == ["alpha-1", "beta-1", "delta-1", "gamma-1"]
    org = ORGS.read(books.state, did("alpha"))
    assert org is not None and (org.nodes, org.humans) == (("alpha-1",), ("alpha-ada", "alpha-bob"))


def test_another_genesis_is_another_state() -> None:
    roots = {tree.update(MemoryStore(Random(0)), initial(genesis(count)))[0] for count in (4, 5, 6)}
    assert len(roots) == 3


def test_a_genesis_that_does_not_fit_is_refused() -> None:
    base = genesis(4)
    with pytest.raises(BadInput) as caught:
        initial(replace(base, meta_coordinators=tuple(did(f"n{number}") for number in range(101))))
    assert caught.value.name == "genesis-malformed"
    twice = replace(base, orgs=(*base.orgs[:3], replace(base.orgs[3], root_key=base.orgs[0].root_key)))
    with pytest.raises(Refused) as refused:
        initial(twice)
    assert refused.value.name == "key-in-use"


# -- determinism and proofs --------------------------------------------------------------------------------------------


def busy_day(books: Books) -> None:
    tab = tab_id(books.do("alpha-1", OpenTab(did("beta"), 500)))
    books.do("beta-1", books.redemption(tab, "alpha-1", 120))
    books.refused("alpha-root", Transfer(did("beta"), FUNDS), "insufficient-funds")
    books.do("alpha-1", CloseTab(tab))
    books.block([books.request(f"{name}-root", Transfer(did("alpha"), 3)) for name in ("delta", "beta", "gamma")])
    books.block(later_ms=4_000_000)


def test_the_same_blocks_give_the_same_bytes() -> None:
    first = Books()
    busy_day(first)
    store, ledger = MemoryStore(Random(9)), Ledger(first.genesis)
    store.write(ledger.genesis().writes)
    for block in first.blocks:
        assert block.header.state_root == tree.root(store)
        store.write(ledger.execute(store, block).writes)
    assert list(store.scan(b"")) == list(first.store.scan(b"")) and faults(State(store)) == []


def test_every_entry_is_proven_by_the_root() -> None:
    books = Books()
    busy_day(books)
    root = tree.root(books.store)
    for entry, value in books.state.scan(b""):
        verify(root, entry, value, tree.prove(books.store, entry))
    verify(root, ACCOUNTS.key(did("nobody")), None, tree.prove(books.store, ACCOUNTS.key(did("nobody"))))


def test_a_result_is_proven_by_the_state() -> None:
    books = Books()
    requests = [books.request(f"{name}-root", Transfer(did("alpha"), 3)) for name in ("delta", "beta", "gamma")]
    books.block(requests)
    executed = books.ledger.execute(Books().store, books.blocks[-1])
    outcomes = OUTCOMES.read(books.state, place(books.height))
    assert outcomes is not None and (outcomes.height, outcomes.count) == (1, 3)
    hashes = [merkle.leaf_hash(result) for result in executed.results]
    for index, leaf in enumerate(hashes):
        merkle.verify(outcomes.root, leaf, index, 3, merkle.prove(hashes, index))
        assert decode_result(executed.results[index]).index == index


def test_a_state_is_carried_over_in_chunks() -> None:
    books = Books()
    busy_day(books)
    store, root, at = MemoryStore(Random(3)), tree.root(books.store), b""
    while at is not None:
        restored = books.ledger.restore(store, books.ledger.chunk(books.store, at), root)
        store.write(restored.writes)
        at = restored.next
    assert list(store.scan(b"")) == list(books.store.scan(b""))
    with pytest.raises(Refused) as caught:
        books.ledger.restore(MemoryStore(Random(4)), books.ledger.chunk(books.store, b""), bytes(32))
    assert caught.value.name == "bad-chunk"


def test_an_idle_block_changes_nothing() -> None:
    books = Books()
    before = tree.root(books.store)
    books.block()
    assert tree.root(books.store) == before


# -- what must never be --------------------------------------------------------------------------------------------------


def test_a_replica_stops_before_it_signs_a_state_in_which_tokens_came_from_nowhere() -> None:
    books = Books()
    wrong = TOTALS.encode(Totals(4 * FUNDS + 77, 4 * FUNDS + 1, 0, 77))
    books.store.write(tree.update(books.store, {TOTALS.key(b""): wrong})[1])
    with pytest.raises(Broken) as caught:
        books.block()
    assert caught.value.name == "tokens-not-conserved"


@pytest.mark.parametrize(
    "entry",
    [
        (ACCOUNTS.key(did("alpha")), ACCOUNTS.encode(Account(FUNDS + 1))),
        (ORGS.key(did("alpha")), None),
        (KEYS.key("alpha-1"), None),
        (KEYS.key("beta-1"), KEYS.encode(Key("node", did("alpha"), 0, "beta-1-votes"))),
    ],
)
def test_the_audit_sees_a_wrong_entry(entry: tuple[bytes, bytes | None]) -> None:
    books = Books()
    books.store.write(tree.update(books.store, dict([entry]))[1])
    assert faults(books.state)


def test_an_entry_that_cannot_be_read_is_our_bug() -> None:
    for value in (b"\xff", b"\x01"):
        with pytest.raises(Broken) as caught:
            MOTIONS.decode(value)
        assert caught.value.name == "ledger-broken"


def test_the_audit_trail_is_bounded() -> None:
    books = Books()
    draft = Draft(books.state, 1, books.time_ms)
    for number in range(MAX_AUDIT + 5):
        record(draft, "somebody", "something", str(number))
    changes = draft.changes()
    entries = [AUDIT.decode(value) for name, value in changes.items() if name.startswith(AUDIT.prefix) and value is not None]
    assert len(entries) == MAX_AUDIT and min(entry.number for entry in entries) == 5
    assert NEXT.decode(changes[NEXT.key(b"")] or b"") == MAX_AUDIT + 5


# -- the draft ---------------------------------------------------------------------------------------------------------


def test_undo_takes_back_all_since_begin_and_nothing_before() -> None:
    books = Books()
    draft = Draft(books.state, 1, 0)
    draft.write(ACCOUNTS, did("alpha"), Account(1))
    draft.begin()
    draft.write(ACCOUNTS, did("alpha"), Account(2))
    draft.write(ACCOUNTS, did("alpha"), None)
    draft.write(ACCOUNTS, did("beta"), Account(3))
    draft.write(ACCOUNTS, did("zeta"), Account(4))
    draft.undo()
    assert draft.changes() == {ACCOUNTS.key(did("alpha")): ACCOUNTS.encode(Account(1))}
    assert draft.read(ACCOUNTS, did("beta")) == Account(FUNDS) and draft.read(ACCOUNTS, did("zeta")) is None
