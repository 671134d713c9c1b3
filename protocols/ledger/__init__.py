"""A node's dealings with the ledger: what it asks of it, what it sees of it."""
