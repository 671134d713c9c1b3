"""Signatures: the same bytes mean one thing only."""

import ast
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos.crypto.keys import SigningKey, multikey, node_id
from meshos.crypto.limits import SIGNED_BYTES
from meshos.crypto.signing import Claim, Domain, Ed25519Signer, Ed25519Verifier, Signer, Verifier, sign, signed_bytes, verify, verify_many
from meshos.crypto.simulated import SimulatedSigner, SimulatedVerifier, SimulatedWorld
from meshos.errors import Refused

KEY, OTHER = SigningKey(b"a" * 32), SigningKey(b"b" * 32)
DOMAIN = Domain(b"g" * 32, "/meshos/test/1", 1, 2, 3, "prepare")

numbers = st.integers(0, 2**63 - 1)
domains = st.builds(
    Domain, st.binary(min_size=32, max_size=32), st.text(min_size=1, max_size=20), numbers, numbers, numbers, st.text(max_size=9)
)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.name


def test_a_signature_holds_for_what_was_signed() -> None:
    verify(KEY.public, DOMAIN, b"payload", sign(KEY, DOMAIN, b"payload"))


@pytest.mark.parametrize(
    "changed",
    [{"genesis_hash": b"h" * 32}, {"protocol": "/meshos/test/2"}, {"epoch": 9}, {"view": 9}, {"height": 9}, {"phase": "commit"}],
    ids=lambda changed: next(iter(changed)),
)
def test_it_holds_in_no_other_domain(changed: dict[str, object]) -> None:
    signature = sign(KEY, DOMAIN, b"payload")
    other = dataclasses.replace(DOMAIN, **changed)  # type: ignore[arg-type]
    assert refusal(lambda: verify(KEY.public, other, b"payload", signature)) == "bad-signature"


def test_it_holds_for_no_other_payload_or_key() -> None:
    signature = sign(KEY, DOMAIN, b"payload")
    assert refusal(lambda: verify(KEY.public, DOMAIN, b"payloae", signature)) == "bad-signature"
    assert refusal(lambda: verify(OTHER.public, DOMAIN, b"payload", signature)) == "bad-signature"
    assert refusal(lambda: verify(KEY.public, DOMAIN, b"payload", signature[:-1])) == "bad-signature"


@given(domains, st.binary(max_size=40), domains, st.binary(max_size=40))
def test_two_meanings_never_have_the_same_bytes(one: Domain, first: bytes, two: Domain, second: bytes) -> None:
    assert (signed_bytes(one, first) == signed_bytes(two, second)) == ((one, first) == (two, second))


@given(domains, st.binary(max_size=40), st.integers(1, 40))
def test_no_part_of_a_payload_moves_into_the_domain(domain: Domain, payload: bytes, cut: int) -> None:
    """The end of the domain is where its encoding says: no domain's bytes begin with another's."""
    shorter = dataclasses.replace(domain, phase=domain.phase[:-cut])
    if shorter != domain:
        assert not bytes(domain).startswith(bytes(shorter))


def test_what_is_signed_cannot_be_a_certificate_or_a_handshake() -> None:
    """RFC 8446, section 4.4.3: TLS signs 64 spaces first. DER begins with 0x30, libp2p's Noise payload with 'n'."""
    assert signed_bytes(DOMAIN, b"")[:1] not in (b" ", b"\x30", b"n")


@pytest.mark.parametrize(
    "bad",
    [{"genesis_hash": b""}, {"protocol": ""}, {"protocol": "x" * 129}, {"phase": "ä" * 65}, {"epoch": -1}, {"view": 2**63}, {"height": -1}],
    ids=str,
)
def test_a_domain_has_bounds(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        dataclasses.replace(DOMAIN, **bad)  # type: ignore[arg-type]


def test_too_much_is_neither_signed_nor_verified() -> None:
    huge = bytes(SIGNED_BYTES + 1)
    assert refusal(lambda: sign(KEY, DOMAIN, huge)) == "too-large"
    assert refusal(lambda: verify(KEY.public, DOMAIN, huge, bytes(64))) == "too-large"


def test_many_are_verified_one_by_one() -> None:
    name, signature = node_id(KEY.public), sign(KEY, DOMAIN, b"x")
    good = Claim(name, DOMAIN, b"x", signature)
    claims = [
        good,
        dataclasses.replace(good, payload=b"y"),
        dataclasses.replace(good, signer="12D3KooWnonsense"),
        dataclasses.replace(good, signer=multikey(KEY.public)),
        dataclasses.replace(good, signer=multikey(OTHER.public)),
        dataclasses.replace(good, payload=bytes(SIGNED_BYTES + 1)),
    ]
    assert verify_many(claims) == [True, False, False, True, False, False]


WORLD = SimulatedWorld(7)
PAIRS: list[tuple[Signer, Signer, Verifier]] = [
    (Ed25519Signer(KEY, node_id(KEY.public)), Ed25519Signer(OTHER, multikey(OTHER.public)), Ed25519Verifier()),
    (SimulatedSigner(WORLD, "n1"), SimulatedSigner(WORLD, "n2"), SimulatedVerifier(WORLD)),
]


@pytest.mark.parametrize(("one", "two", "verifier"), PAIRS, ids=["ed25519", "simulated"])
def test_signers_and_verifiers_agree(one: Signer, two: Signer, verifier: Verifier) -> None:
    """The simulated ones hold exactly where the real ones do."""
    signature = one.sign(DOMAIN, b"x")
    assert len(signature) == 64 and signature == one.sign(DOMAIN, b"x")
    verifier.verify(one.name, DOMAIN, b"x", signature)
    changed = dataclasses.replace(DOMAIN, height=4)
    assert refusal(lambda: verifier.verify(two.name, DOMAIN, b"x", signature)) == "bad-signature"
    assert refusal(lambda: verifier.verify(one.name, changed, b"x", signature)) == "bad-signature"
    assert refusal(lambda: verifier.verify(one.name, DOMAIN, b"y", signature)) == "bad-signature"
    assert refusal(lambda: verifier.verify(one.name, DOMAIN, b"x", signature[:-1])) == "bad-signature"
    good = Claim(one.name, DOMAIN, b"x", signature)
    assert verifier.verify_many([good, dataclasses.replace(good, signer=two.name), good]) == [True, False, True]


def test_a_signer_has_a_name_of_its_own_key() -> None:
    with pytest.raises(ValueError, match="not a name of"):
        Ed25519Signer(KEY, node_id(OTHER.public))


def test_a_simulated_signature_is_worth_nothing_outside_its_world() -> None:
    name = node_id(KEY.public)
    signature = SimulatedSigner(WORLD, name).sign(DOMAIN, b"x")
    assert refusal(lambda: Ed25519Verifier().verify(name, DOMAIN, b"x", signature)) == "bad-signature"
    assert refusal(lambda: SimulatedVerifier(SimulatedWorld(8)).verify(name, DOMAIN, b"x", signature)) == "bad-signature"


@pytest.mark.parametrize("kind", [lambda: SimulatedSigner(7, "n1"), lambda: SimulatedVerifier(None)])  # type: ignore[arg-type]
def test_simulated_signatures_need_a_simulated_world(kind: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="SimulatedWorld"):
        kind()


def test_only_simulations_import_simulated_signatures() -> None:
    root = Path(__file__).resolve().parents[2]
    guilty = []
    for folder in ("meshos", "crypto", "storage", "consensus", "protocols", "adapters", "node", "sdk"):
        for path in (root / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                if any(name == "meshos.crypto.simulated" for name in names) or ("meshos.crypto" in names and "simulated" in names):
                    guilty.append(str(path))
    assert guilty == []
