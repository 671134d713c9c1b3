"""Authenticated links to other nodes: connections, lanes, and what becomes of both."""
