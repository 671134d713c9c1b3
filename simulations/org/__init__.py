"""Organisations of several nodes, whole: their Raft groups, agents that move with the leader, calls from everywhere."""
