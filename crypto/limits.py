"""How much of a stranger's keys, signatures, certificates and boxes is read or remembered, and why."""

KEYS_CACHED = 4_096
"""Public keys whose text was decoded and whose point was checked (70 µs each); above the members of a large mesh."""

NAME_CHARS = 128
"""A node id has 52 characters and a Multikey 48; longer text is refused before decoding, which costs its square."""

DOMAIN_TEXT_BYTES = 128
"""The protocol or phase of a signature's domain."""

SIGNED_BYTES = 16 * 1024 * 1024
"""What one signature may cover. Larger things are signed by their hash."""

HEADERS_CACHED = 1_024
"""Encoded domains: a node has a few dozen protocols; those with heights pass through."""

assert NAME_CHARS >= 2 * 52
assert DOMAIN_TEXT_BYTES < SIGNED_BYTES
