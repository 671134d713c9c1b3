"""What the product costs, measured by its own commands, with the peer or the floor beside it in the same run."""
