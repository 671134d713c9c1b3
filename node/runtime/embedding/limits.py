"""Every bound of the sentence model, with its reason."""

MAX_TOKENS = 256
"""What the model was trained to read (its `max_seq_length`); further words of a text do not count."""

MAX_CHARS = 4_096
"""A text is cut here before it is split into tokens: 256 tokens of English are some 1,100 characters."""

BATCH_TOKENS = 256
"""Tokens that go through the layers together, some six cards. Larger batches were not faster, and hold a worker thread longer."""

HEADER_BYTES = 1 << 20
"""The header of a model file; that of this model has 11,408 bytes."""

assert MAX_TOKENS <= BATCH_TOKENS
assert MAX_CHARS >= 4 * MAX_TOKENS
