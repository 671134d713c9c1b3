"""What the API asks of the node, done with Flows and by looking at the machines."""
