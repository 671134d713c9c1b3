"""Requests and replies between nodes, exactly once by id, with deadlines that shrink on the way."""
