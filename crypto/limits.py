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

CERTIFICATE_BYTES = 4_096
"""One X.509 certificate in DER; ours have 500 to 700 bytes."""

CHAIN_LENGTH = 2
"""The node's certificate and perhaps its root: there are no authorities in between."""

CRL_BYTES = 1024 * 1024
"""A revocation list: 20,000 entries of about 37 bytes, and room to spare."""

CRL_ENTRIES = 20_000
"""Revoked certificates of one organisation. One that loses more keys than that needs a new root."""

CRL_NUMBER = 2**62
"""Of a revocation list; below what CBOR calls a large integer."""

assert CRL_ENTRIES * 48 <= CRL_BYTES

BACKDATED_S = 3_600
"""A certificate is valid from this long before it was made, since clocks differ."""

ROOT_LIFETIME_S = 30 * 365 * 86_400
"""A root is replaced by a decision of the mesh, never by the calendar."""

NODE_LIFETIME_S = 365 * 86_400
"""A node's certificate by default."""

assert BACKDATED_S < NODE_LIFETIME_S < ROOT_LIFETIME_S

DATAGRAM_BYTES = 1_200
"""What every path carries in one piece (RFC 9000, section 14.1, takes the same)."""

BOX_PEERS = 4_096
"""Peers whose box keys are kept (about 300 bytes each); the least recently used one is computed again (200 µs)."""

INVITATION_BYTES = 2_048
"""An invitation before it becomes text."""

INVITATION_LIFETIME_S = 86_400
"""An invitation by default."""

INVITATION_MAX_LIFETIME_S = 7 * 86_400
"""No longer: whoever finds it can become a node of the organisation."""

INVITATION_ADDRESSES = 8
"""Nodes of the organisation that an invitation names, of at most ADDRESS_BYTES each."""

ADDRESS_BYTES = 128
"""An address in an invitation."""

GUEST_BYTES = 512
"""An invitation of an organisation: two DIDs, a key, a time and a signature."""

REQUEST_BYTES = 2 * INVITATION_BYTES
"""A request to join: the invitation as text (4/3 of its bytes), a public key and a signature."""

assert INVITATION_ADDRESSES * (ADDRESS_BYTES + 2) + 512 <= INVITATION_BYTES
assert INVITATION_BYTES * 4 // 3 + 256 <= REQUEST_BYTES
assert INVITATION_LIFETIME_S <= INVITATION_MAX_LIFETIME_S

KEYSTORE_BYTES = 256 * 1024
"""A key file; a node's has one to three keys of about 60 bytes."""

KEYSTORE_KEYS = 256
"""Keys in one file."""

KEYSTORE_MEMORY_BYTES = 1024 * 1024 * 1024
"""What a key file's header may make Argon2id allocate: the file may not be ours."""

KEYSTORE_PASSES = 16
"""As above: how often Argon2id may go over that memory."""

PASSPHRASE_BYTES = 1_024
"""A passphrase read from a file or the environment."""
