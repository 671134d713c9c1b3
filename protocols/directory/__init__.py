"""Who can do what: signed agent records, on every node, found by meaning and by word."""
