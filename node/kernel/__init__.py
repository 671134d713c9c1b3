"""How the machines of a node are put together, and what the node decides; no I/O."""
