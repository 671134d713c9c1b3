"""The vector and word index: what is nearest to a question."""
