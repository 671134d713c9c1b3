"""The flight recorder: what a node's machines were given, kept in a bounded ring on disk, so that it can be replayed."""
