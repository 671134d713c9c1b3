"""The question of ``mesh explain AGENT --query``."""

from collections.abc import Mapping
from dataclasses import dataclass

from meshos.errors import BadInput


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of a question: None and 0 are what it does not say."""

    query: str | None
    filters: Mapping[str, object]
    exclude: Mapping[str, list[str] | None]
    weigh: Mapping[str, float]

    def body(self, subject: str | None) -> dict[str, object] | None:
        """The body of the request, None if there is no question; raises BadInput ``usage`` where one makes no sense."""
        filters = {name: value for name, value in self.filters.items() if value is not None and value != []}
        exclude = {name: value for name, value in self.exclude.items() if value}
        if exclude:
            filters["exclude"] = exclude
        weigh = {name: weight for name, weight in self.weigh.items() if weight}
        if self.query is None:
            if filters or weigh:
                raise BadInput("usage", "conditions and weights belong to a question", hint="add --query")
            return None
        if subject is None or not subject.startswith("a-"):
            raise BadInput(
                "usage", "--query explains the score of an agent", hint="give its id, as in mesh explain a-7f3a12cd --query 'tell the time'"
            )
        if not self.query.strip():
            raise BadInput("usage", "the query is empty", hint="say in plain words what was asked for")
        body: dict[str, object] = {"query": self.query, "filters": filters}
        return body | {"weigh": weigh} if weigh else body
