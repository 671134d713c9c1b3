"""Hardware providers, a plugin each."""
