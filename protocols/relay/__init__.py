"""The relay lane: a member joins two that cannot dial each other, and sees ciphertext only. Pure: events in, effects out."""
