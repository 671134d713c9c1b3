"""Reading a map that a stranger sent: each field by its type and size, and no field that is not known."""

from meshos.cbor import Value
from meshos.errors import Refused
from meshos.protocols.tasks.limits import MAX_NAME_CHARS

_MAX_NUMBER = 2**63 - 1


class Fields:
    """The fields of ``value``, a map; ``what`` names it in a refusal. Every method raises Refused ``bad-message``."""

    def __init__(self, value: Value, what: str) -> None:
        self._what = what
        if not isinstance(value, dict):
            raise self.refusal("it is not a map")
        self._left = dict(value)

    def refusal(self, why: str) -> Refused:
        """What is raised."""
        return Refused("bad-message", f"{self._what} cannot be read: {why}")

    def text(self, name: str, chars: int = MAX_NAME_CHARS) -> str:
        """Text of at most ``chars`` characters."""
        value = self._take(name)
        if not isinstance(value, str) or len(value) > chars:
            raise self.refusal(f"{name} is not text of at most {chars} characters")
        return value

    def texts(self, name: str, count: int, chars: int = MAX_NAME_CHARS) -> list[str]:
        """A list of exactly ``count`` texts."""
        value = self._take(name)
        if not isinstance(value, list) or len(value) != count:
            raise self.refusal(f"{name} is not a list of {count}")
        found = [item for item in value if isinstance(item, str) and len(item) <= chars]
        if len(found) != count:
            raise self.refusal(f"{name} holds something else than text of at most {chars} characters")
        return found

    def data(self, name: str, most: int, *, exactly: bool = False) -> bytes:
        """At most, or exactly, ``most`` bytes."""
        value = self._take(name)
        if not isinstance(value, bytes) or len(value) > most or (exactly and len(value) != most):
            raise self.refusal(f"{name} is not {'' if exactly else 'at most '}{most} bytes")
        return value

    def number(self, name: str, most: int = _MAX_NUMBER) -> int:
        """An integer from 0 to ``most``."""
        value = self._take(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self.refusal(f"{name} is not a number from 0 to {most}")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise self.refusal(f"{name} is neither true nor false")
        return value

    def items(self, name: str, most: int) -> list[Value]:
        """A list of at most ``most`` values, for the caller to read."""
        value = self._take(name)
        if not isinstance(value, list) or len(value) > most:
            raise self.refusal(f"{name} is not a list of at most {most}")
        return value

    def absent(self, name: str) -> bool:
        """Whether the field is null; then it is read."""
        if name in self._left and self._left[name] is None:
            del self._left[name]
            return True
        return False

    def has(self, name: str) -> bool:
        """Whether the field is there: those that came later may be missing in what an older version sends."""
        return name in self._left

    def end(self) -> None:
        """Nothing else may be there."""
        if self._left:
            raise self.refusal(f"{sorted(self._left)[0][:40]!r} has no meaning")

    def _take(self, name: str) -> Value:
        if name not in self._left:
            raise self.refusal(f"{name} is missing")
        return self._left.pop(name)
