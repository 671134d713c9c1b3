"""Mesh OS: the words that every part uses; in a checkout, the top-level folders join as ``meshos.<folder>``."""

from pathlib import Path

_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file() and (_checkout / "genesis.json").is_file():
    __path__.append(str(_checkout))
