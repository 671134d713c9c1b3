"""A whole mesh on this machine, one process a node, and chaos by hand."""
