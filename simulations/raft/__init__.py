"""The scenario ``raft``: one group's nodes, their clients and their operator, what must hold, and how it may be broken."""
