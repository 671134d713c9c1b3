"""Documents as one word of text, for people to hand over by file, by paste or over any channel: a mark that says what it is, then canonical
CBOR in base64url. A word has one spelling only."""

import base64
import binascii

from meshos import cbor
from meshos.errors import Refused


def word_of(mark: str, value: object) -> str:
    """The word that holds ``value``."""
    return mark + base64.urlsafe_b64encode(cbor.encode(value)).decode().rstrip("=")


def word_chars(mark: str, max_bytes: int) -> int:
    """How long a word of ``max_bytes`` may be."""
    return len(mark) + max_bytes * 4 // 3 + 4


def read_word(text: str, mark: str, max_bytes: int) -> cbor.Value:
    """What stands behind ``mark``; blanks around the text come from pasting and do not count.

    Raises ValueError, which says what is wrong.
    """
    text = text.strip()
    if not text.startswith(mark) or len(text) > word_chars(mark, max_bytes):
        raise ValueError(f"it does not begin with {mark}, or is too long")
    body = text[len(mark) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        value = cbor.decode(data, max_bytes=max_bytes)
    except (binascii.Error, ValueError, Refused) as error:
        raise ValueError("it was cut off or changed") from error
    if base64.urlsafe_b64encode(data).decode().rstrip("=") != body:
        raise ValueError("it was changed")  # the last character has bits to spare, which have to be zero
    return value
