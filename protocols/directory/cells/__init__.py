"""The directory in cells: which cell a record belongs to, and which cells a question is sent to (no I/O)."""
