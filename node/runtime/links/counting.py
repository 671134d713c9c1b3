"""Under which names links count the errors that end or refuse them.

The last frame of a connection is in the other side's words, and it may say any name. Each name that is counted is a line of the metrics,
so that only those that the catalogue has are counted by name.
"""

from typing import Final

from meshos import catalogue
from meshos.errors import MeshError

OTHER: Final = "other"
"""All names that nobody here has given an error."""


def name_of(error: MeshError) -> str:
    """The error's name, if the catalogue has it."""
    return error.name if error.name in catalogue.entries() else OTHER
