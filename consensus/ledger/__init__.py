"""What the organisations decide together: the ledger that PBFT orders."""
