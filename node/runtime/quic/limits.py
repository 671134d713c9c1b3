"""The bounds of every QUIC connection until it is known whose it is, with their reasons."""

CRYPTO_BYTES = 16 * 1024
"""Of a handshake, in each of its three parts: two certificates, their signatures and the extensions are below 10 KiB. aioquic itself
would buffer 512 KiB beyond a gap, and 16 MiB of an unfinished message, for whoever sends them."""

DATAGRAM_BYTES = 1_500
"""Ethernet's. Nothing larger is sent before a path was probed for it, so nothing larger is read before."""

DATAGRAMS = 48
ALL_BYTES = 64 * 1024
"""Of a handshake, lost and sent again more than once: four or five do where nothing is lost. Each costs some 0.1 ms to open."""

FRAMES = 512
"""In those: an honest handshake has some 30. aioquic takes each by itself, at a microsecond or more, and 1,200 of them fit a datagram."""

assert DATAGRAMS * 1_200 <= ALL_BYTES

HOLES = 1_000
"""In what has come of a stream. A window of 1 MiB is some 900 datagrams, of which every other one may be lost at worst; looking through so
many ranges takes about 20 µs a frame."""
