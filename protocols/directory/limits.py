"""Every bound of the directory in one place, with its reason, and how the bounds hang together."""

WORDS_CACHED = 20_000
"""Hashed words remembered: more than the vocabulary of 10,000 real cards' frequent words, a few megabytes."""
