"""Vectors of bundles, and of all that a light client has to refuse (docs/reference/wire.md, 5.4 and 5.6)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from meshos import cbor
from meshos.consensus.ledger import light_client, tree
from meshos.consensus.ledger.founding import initial
from meshos.consensus.ledger.light_client import Bundle, decode_bundle, encode_bundle
from meshos.consensus.pbft.block import Certificate
from meshos.consensus.pbft.codec import step_fields
from meshos.crypto.signing import Ed25519Verifier
from tests.ledger_tree.states import Memory
from tests.vectors.basics import refusal
from tests.vectors.chain import GENESIS, Chain, set_of

VERIFIER = Ed25519Verifier()
ACCOUNT = b"account/did:mesh:enterprise:alpha"
FIVE = ["alpha", "beta", "gamma", "delta", "epsilon"]
NEW = ["gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]


class Told:
    """A state of the mesh as genesis founds it, and bundles that prove it, right and wrong."""

    def __init__(self) -> None:
        self.state = Memory()
        self.root = self.state.change(dict(initial(GENESIS)))
        self.account = initial(GENESIS)[ACCOUNT]

    def chain(self) -> Chain:
        """Two changes of the validators, with blocks between them: of seven then, one that is suspended."""
        chain = Chain()
        chain.skip(2)
        chain.hand_over(set_of(1, FIVE))
        chain.hand_over(set_of(2, NEW, ["zeta"]), view=3)
        chain.skip(1)
        return chain

    def short(self) -> Chain:
        """One change of the validators."""
        chain = Chain()
        chain.hand_over(set_of(1, FIVE))
        return chain

    def of(self, chain: Chain, seats: list[int] | None = None, key: bytes = ACCOUNT, **changes: Any) -> Bundle:
        """The end signed by these seats; ``changes`` of its header, which are signed, too."""
        header = replace(chain.header(self.root), **changes)
        value = initial(GENESIS).get(key)
        return chain.bundle(chain.signed(header, seats), key, value, tree.prove(self.state, key))

    def good(self) -> Iterator[tuple[str, Bundle]]:
        """Bundles that prove what they say."""
        first = Chain()
        yield "the first block, by the validators of genesis", self.of(first)
        yield "a key that is not there", self.of(Chain(), key=b"account/did:mesh:enterprise:nobody")
        yield "two changes of the validators, one of whom is suspended", self.of(self.chain())
        yield "more signatures than are needed", self.of(self.chain(), [0, 1, 2, 3, 5, 6])
        yield "the seats", self.of(self.chain(), key=b"seats")

    def wrong(self) -> Iterator[tuple[str, Bundle]]:
        """Bundles that prove nothing."""
        good = self.of(self.chain())
        first, second = good.steps
        yield "the genesis hash of another mesh", replace(good, genesis_hash=bytes(32))
        yield "a value that nobody signed", replace(good, value=b"\x81\x00")
        yield "said not to be there", replace(good, value=None)
        yield "a header that was changed after it was signed", _ended(good, time_ms=good.signed.header.time_ms + 1)
        yield "another state than was signed", _ended(good, state_root=bytes(32))
        yield "too few signatures", self.of(self.chain(), [0, 1, 2, 3])
        yield "the suspended one signs", self.of(self.chain(), [0, 1, 2, 3, 4])
        yield "a seat that there is not", _with_rows(good, [*good.signed.certificate.signatures, (7, bytes(64))])
        yield "one signature of six is wrong", _with_rows(good, [*good.signed.certificate.signatures, (6, bytes(64))])
        yield (
            "the signatures of another view",
            replace(good, signed=replace(good.signed, certificate=replace(good.signed.certificate, view=1))),
        )
        yield "the first change is left out", replace(good, steps=(second,))
        yield "the last change is left out", replace(good, steps=(first,))
        yield "the changes in another order", replace(good, steps=(second, first))
        yield "a change twice", replace(good, steps=(first, first, second))
        yield "other validators than the header names", replace(good, steps=(first, replace(second, validators=set_of(2, FIVE))))
        yield "a set that skips an epoch", self._skipping()
        yield "a block below one that was checked", self.of(self.chain(), height=3)
        yield "a block that does not follow the one before", self.of(self.short(), parent=bytes(32))
        yield "an epoch that is over", self._past()
        yield "the first block with another parent", self.of(Chain(), parent=bytes(32))

    def _skipping(self) -> Bundle:
        chain = Chain()
        chain.hand_over(set_of(2, FIVE))
        return self.of(chain)

    def _past(self) -> Bundle:
        chain = self.chain()
        chain.validators = set_of(0, ["alpha", "beta", "gamma", "delta"])
        return self.of(chain)


def _ended(bundle: Bundle, **changes: Any) -> Bundle:
    return replace(bundle, signed=replace(bundle.signed, header=replace(bundle.signed.header, **changes)))


def _with_rows(bundle: Bundle, rows: list[tuple[int, bytes]]) -> Bundle:
    return replace(bundle, signed=replace(bundle.signed, certificate=Certificate(0, tuple(rows))))


def _forms(good: Bundle) -> Iterator[tuple[str, object]]:
    """Bundles of a wrong form."""
    fields = cbor.decode(encode_bundle(good), max_bytes=1 << 20)
    assert isinstance(fields, list)

    def with_(place: int, value: object) -> list[object]:
        return [*fields[:place], value, *fields[place + 1 :]]

    header, certificate = list(_list(fields[3])), list(_list(fields[4]))
    rows = list(_list(certificate[1]))
    yield "no list", b"bundle"
    yield "a field too many", [*fields, 0]
    yield "a field too few", fields[:-1]
    yield "version 2", with_(0, 2)
    yield "version true", with_(0, True)
    yield "version -1", with_(0, -1)
    yield "version 2^64 - 1", with_(0, 2**64 - 1)
    yield "no version", with_(0, None)
    yield "a text for a version", with_(0, "1")
    yield "a header of version true", with_(3, [True, *header[1:]])
    yield "a genesis hash of 31 bytes", with_(1, bytes(31))
    yield "a step of two parts", with_(2, [_list(_list(fields[2])[0])[:2]])
    yield "a header of version 2", with_(3, [2, *header[1:]])
    yield "a header at height 0", with_(3, [1, 0, *header[2:]])
    yield "a header with a negative epoch", with_(3, [*header[:2], -1, *header[3:]])
    yield "a header with true for a height", with_(3, [1, True, *header[2:]])
    yield "a header with a height above 2**53", with_(3, [1, 2**53 + 1, *header[2:]])
    yield "a header with a hash of 31 bytes", with_(3, [*header[:4], bytes(31), *header[5:]])
    yield "a certificate with a row twice", with_(4, [0, [rows[0], rows[0], *rows[1:]]])
    yield "a certificate with rows out of order", with_(4, [0, rows[::-1]])
    yield "a certificate with a signature of 63 bytes", with_(4, [0, [[0, bytes(63)], *rows[1:]]])
    yield "a certificate with an index of 100", with_(4, [0, [*rows, [100, bytes(64)]]])
    yield "a key without bytes", with_(5, b"")
    yield "a key of 129 bytes", with_(5, b"k" * 129)
    yield "a key that is a text", with_(5, "account/did:mesh:enterprise:alpha")
    yield "a value of more than 24 KiB", with_(6, bytes((24 << 10) + 1))
    yield "a proof of a wrong form", with_(7, [[]])
    step = step_fields(good.steps[0])
    seats = list(_list(_list(step[2])[1]))
    for why, set_ in _wrong_sets(seats):
        yield why, with_(2, [[*step[:2], set_]])


def _wrong_sets(seats: list[Any]) -> Iterator[tuple[str, object]]:
    yield "a set out of order", [1, seats[::-1]]
    yield "a set without seats", [1, []]
    yield "a set with an organisation twice", [1, [seats[0], *seats]]
    yield "a set with a key twice", [1, [[*seats[0][:2], seats[1][2], False], *seats[1:]]]
    yield "a set with a node twice", [1, [[seats[0][0], seats[1][1], *seats[0][2:]], *seats[1:]]]
    yield "a seat that is neither suspended nor not", [1, [[*seats[0][:3], 0], *seats[1:]]]


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def bundle_vectors() -> dict[str, Any]:
    """Bundles, and what they prove to who has the first genesis, or why not."""
    told = Told()
    good = [(why, encode_bundle(bundle)) for why, bundle in told.good()]
    wrong = [(why, encode_bundle(bundle)) for why, bundle in told.wrong()]
    wrong += [(why, cbor.encode(form)) for why, form in _forms(told.of(told.short()))]
    wrong += [("bytes behind it", good[0][1] + b"\0"), ("cut off", good[0][1][:-1])]
    return {
        "genesis": "given/first.genesis.json",
        "proves": [{"what": what, "bundle": data.hex(), **_proves(data)} for what, data in good],
        "refused": [{"why": why, "bundle": data.hex(), "refused": refusal(_proves, data)} for why, data in wrong],
    }


def _proves(data: bytes) -> dict[str, Any]:
    proven = light_client.verify(GENESIS, decode_bundle(data), VERIFIER)
    return {
        "key": proven.key.hex(),
        "value": None if proven.value is None else proven.value.hex(),
        "height": proven.height,
        "time_ms": proven.time_ms,
        "epoch": proven.validators.epoch,
        "signers": list(proven.signers),
    }
