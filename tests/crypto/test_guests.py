"""Guests: this organisation, into this mesh, in time, by the key that signed."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshos import cbor
from meshos.crypto.guests import MARK, PROTOCOL, Guest, invite_guest, read_guest
from meshos.crypto.keys import SigningKey
from meshos.crypto.signing import Domain, sign
from meshos.crypto.words import word_of
from meshos.errors import BadInput, Refused
from meshos.ids import org_did

NOW = 1_800_000_000.0
GENESIS = bytes(range(32))
ACME, NEWCO = org_did("enterprise", "acme"), org_did("enterprise", "newco")
ROOT, OTHER_ROOT = SigningKey(b"r" * 32), SigningKey(b"s" * 32)
KEY = SigningKey(b"k" * 32).public
TOKEN = invite_guest(ROOT, genesis_hash=GENESIS, host=ACME, guest=NEWCO, key=KEY, now=NOW, lifetime_s=600)


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.name


def test_it_says_who_invites_whom_until_when() -> None:
    assert read_guest(f" {TOKEN}\n", genesis_hash=GENESIS, now=NOW + 600) == Guest(ACME, NEWCO, KEY, ROOT.public, int(NOW) + 600)


def test_it_ends_and_is_for_one_mesh() -> None:
    assert refusal(lambda: read_guest(TOKEN, genesis_hash=GENESIS, now=NOW + 601)) == "invitation-expired"
    assert refusal(lambda: read_guest(TOKEN, genesis_hash=bytes(32), now=NOW)) == "bad-signature"


def test_another_key_cannot_sign_for_the_one_that_it_names() -> None:
    content = cbor.encode([ACME, NEWCO, KEY.raw, ROOT.public.raw, int(NOW) + 600])
    forged = word_of(MARK, [content, sign(OTHER_ROOT, Domain(GENESIS, PROTOCOL), content)])
    assert refusal(lambda: read_guest(forged, genesis_hash=GENESIS, now=NOW)) == "bad-signature"


@pytest.mark.parametrize("seconds", [0, -1, 8 * 86_400])
def test_it_lasts_a_week_at_most(seconds: int) -> None:
    with pytest.raises(BadInput, match="an invitation lasts"):
        invite_guest(ROOT, genesis_hash=GENESIS, host=ACME, guest=NEWCO, key=KEY, now=NOW, lifetime_s=seconds)


SHORT, LONG = cbor.encode([ACME, NEWCO, bytes(32), 1]), cbor.encode([ACME, NEWCO, KEY.raw, bytes(31), 1])


@given(st.one_of(st.text(), st.text().map(MARK.__add__), st.recursive(st.binary() | st.text() | st.integers(-9, 9), st.lists)))
def test_whatever_is_pasted_is_read_or_refused_by_name(pasted: object) -> None:
    texts = [pasted if isinstance(pasted, str) else word_of(MARK, pasted)]
    texts += [word_of(MARK, [content, bytes(64)]) for content in (cbor.encode(pasted), b"\xff", SHORT, LONG)]
    for text in texts:
        with pytest.raises(Refused) as caught:
            read_guest(text, genesis_hash=GENESIS, now=NOW)
        assert caught.value.name == "invitation-malformed"
