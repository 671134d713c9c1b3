"""Organisations that pay each other and decide together, whole nodes with everything that they run."""
