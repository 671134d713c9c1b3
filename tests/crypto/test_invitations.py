"""Invitations: one node, once, in time, of this organisation, in this mesh."""

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.crypto.certificates import Trust, verify_chain
from meshos.crypto.invitations import PROTOCOL, Issued, invite, issue, read_invitation, read_request, request
from meshos.crypto.keys import SigningKey, node_id
from meshos.crypto.signing import Domain, sign
from meshos.errors import BadInput, Refused
from meshos.ids import NodeId, Peer, org_did

NOW = 1_800_000_000.0
GENESIS = bytes(range(32))
ACME, UNI = org_did("enterprise", "acme"), org_did("university", "uni")
ROOT, OTHER_ROOT, NODE, OTHER = (SigningKey(letter * 32) for letter in (b"r", b"s", b"n", b"o"))
TOKEN = invite(ROOT, genesis_hash=GENESIS, org=ACME, now=NOW, lifetime_s=600, addresses=("127.0.0.1:7001", "[::1]:7001"))


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.name


def answered(text: str, *, spent: dict[bytes, NodeId] | None = None, now: float = NOW + 1, root: SigningKey = ROOT) -> Issued:
    return issue(root, text, genesis_hash=GENESIS, org=ACME, spent=spent or {}, now=now)


def test_a_node_joins_with_the_root_key_offline() -> None:
    """Three texts change hands; nothing else is shared."""
    said = read_invitation(TOKEN, now=NOW)
    assert (said.org, said.genesis_hash, said.addresses) == (ACME, GENESIS, ("127.0.0.1:7001", "[::1]:7001"))
    answer = answered(request(TOKEN, NODE, now=NOW + 1))
    trust = Trust(GENESIS[:16].hex(), {ACME: ROOT.public})
    assert verify_chain([answer.certificate], trust, NOW + 2) == Peer(node_id(NODE.public), ACME)
    assert (answer.node, answer.nonce, answer.forget_after) == (node_id(NODE.public), said.nonce, said.expires)


def test_an_invitation_ends() -> None:
    asked = request(TOKEN, NODE, now=NOW + 600)
    assert answered(asked, now=NOW + 600)
    assert refusal(lambda: answered(asked, now=NOW + 601)) == "invitation-expired"
    assert refusal(lambda: request(TOKEN, NODE, now=NOW + 601)) == "invitation-expired"
    assert refusal(lambda: read_invitation(TOKEN, now=NOW - 3_601)) == "invitation-expired"


def test_an_invitation_is_for_one_node() -> None:
    first = answered(request(TOKEN, NODE, now=NOW))
    spent = {first.nonce: first.node}
    assert answered(request(TOKEN, NODE, now=NOW), spent=spent).node == first.node  # its answer was lost: it asks again
    assert refusal(lambda: answered(request(TOKEN, OTHER, now=NOW), spent=spent)) == "invitation-used"


def test_two_invitations_differ() -> None:
    again = invite(ROOT, genesis_hash=GENESIS, org=ACME, now=NOW, lifetime_s=600)
    assert read_invitation(again, now=NOW).nonce != read_invitation(TOKEN, now=NOW).nonce


def test_another_organisations_invitation_is_refused() -> None:
    forged = invite(OTHER_ROOT, genesis_hash=GENESIS, org=ACME, now=NOW)
    other = invite(ROOT, genesis_hash=GENESIS, org=UNI, now=NOW)
    for token in (forged, other):
        assert refusal(lambda token=token: answered(request(token, NODE, now=NOW))) == "invitation-wrong-org"  # type: ignore[misc]


def test_another_meshs_invitation_is_refused() -> None:
    token = invite(ROOT, genesis_hash=bytes(32), org=ACME, now=NOW)
    assert refusal(lambda: answered(request(token, NODE, now=NOW))) == "wrong-mesh"


def repacked(text: str, change: Callable[[list[cbor.Value]], None]) -> str:
    mark, body = text.split(".", 1)
    parts = cbor.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), max_bytes=10_000)
    assert isinstance(parts, list)
    change(parts)
    return f"{mark}." + base64.urlsafe_b64encode(cbor.encode(parts)).decode().rstrip("=")


def test_a_request_is_signed_by_the_key_that_it_brings() -> None:
    """Whoever sees a request cannot put another key into it, nor ask for a certificate of a key that is not theirs."""

    def other_key(parts: list[cbor.Value]) -> None:
        parts[0] = cbor.encode([TOKEN, OTHER.public.raw])

    assert refusal(lambda: read_request(repacked(request(TOKEN, NODE, now=NOW), other_key), now=NOW)) == "bad-signature"


def test_the_terms_are_signed() -> None:
    def longer(parts: list[cbor.Value]) -> None:
        content = cbor.decode(parts[0], max_bytes=2_000) if isinstance(parts[0], bytes) else None
        assert isinstance(content, list)
        content[5] = int(NOW) + 86_400
        parts[0] = cbor.encode(content)

    assert refusal(lambda: read_invitation(repacked(TOKEN, longer), now=NOW)) == "bad-signature"


def test_a_root_cannot_invite_for_ever() -> None:
    with pytest.raises(BadInput):
        invite(ROOT, genesis_hash=GENESIS, org=ACME, now=NOW, lifetime_s=8 * 86_400)
    content = cbor.encode([GENESIS, ACME, ROOT.public.raw, bytes(16), 0, 2**40, []])
    signature = sign(ROOT, Domain(GENESIS, PROTOCOL, phase="invite"), content)
    token = "mesh-invitation-1." + base64.urlsafe_b64encode(cbor.encode([content, signature])).decode().rstrip("=")
    assert refusal(lambda: read_invitation(token, now=NOW)) == "invitation-malformed"


@pytest.mark.parametrize("addresses", [["a"] * 9, ["a" * 129], [""], ["ä"], ["a\nb"]], ids=str)
def test_addresses_have_bounds(addresses: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        invite(ROOT, genesis_hash=GENESIS, org=ACME, now=NOW, addresses=addresses)
    assert caught.value.name == "bad-invitation-terms"


def test_every_lost_or_changed_character_is_noticed() -> None:
    asked = request(TOKEN, NODE, now=NOW)
    for text, read in ((TOKEN, read_invitation), (asked, read_request)):
        for place in range(len(text)):
            swapped = text[:place] + ("B" if text[place] == "A" else "A") + text[place + 1 :]
            for bad in (text[:place], swapped):
                assert refusal(lambda bad=bad, read=read: read(bad, now=NOW)) in (  # type: ignore[misc]
                    "invitation-malformed",
                    "bad-signature",
                    "bad-public-key",
                    "invitation-expired",
                )


def test_the_spare_bits_of_the_last_character_are_zero() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = {0: 0, 2: 4, 3: 2}[len(TOKEN.partition(".")[2]) % 4]  # RFC 4648, section 3.5
    last = alphabet.index(TOKEN[-1])
    for bits in range(1, 2**spare):
        assert refusal(lambda bits=bits: read_invitation(TOKEN[:-1] + alphabet[last | bits], now=NOW)) == "invitation-malformed"  # type: ignore[misc]


def test_blanks_from_pasting_do_not_count() -> None:
    assert read_invitation(f"  {TOKEN}\n", now=NOW) == read_invitation(TOKEN, now=NOW)


@given(st.text(max_size=200))
def test_noise_is_refused(noise: str) -> None:
    for text in (noise, "mesh-invitation-1." + noise, "mesh-request-1." + noise):
        assert refusal(lambda text=text: read_invitation(text, now=NOW)) == "invitation-malformed"  # type: ignore[misc]
        assert refusal(lambda text=text: read_request(text, now=NOW)) == "invitation-malformed"  # type: ignore[misc]


def test_a_huge_token_is_refused_before_it_is_decoded() -> None:
    assert refusal(lambda: read_invitation("mesh-invitation-1." + "A" * 10_000_000, now=NOW)) == "invitation-malformed"
