"""Base58 in Bitcoin's alphabet, which libp2p and Multibase call base58btc: text without 0, O, I and l."""

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {character: value for value, character in enumerate(ALPHABET)}


def encode(data: bytes) -> str:
    """``data`` as text; each leading zero byte is a leading ``1``."""
    zeros = len(data) - len(data.lstrip(b"\0"))
    number = int.from_bytes(data, "big")
    characters = []
    while number:
        number, rest = divmod(number, 58)
        characters.append(ALPHABET[rest])
    return "1" * zeros + "".join(reversed(characters))


def decode(text: str) -> bytes:
    """The bytes of ``text``; raises ValueError. Its cost grows with the square of the length: bound it before."""
    number = 0
    for character in text:
        value = _VALUES.get(character)
        if value is None:
            raise ValueError(f"{character!r} is no character of base58")
        number = number * 58 + value
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
