"""Raft: how the nodes of one organisation agree (Ongaro and Ousterhout 2014; Ongaro's thesis 2014)."""
