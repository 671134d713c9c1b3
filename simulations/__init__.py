"""The same machines in virtual time, hurt in every way, with checkers that watch."""
